"""Which format a log file is in, told from some of its lines.

Goes in: a sample of lines and the formats that may be. Comes out: the one that reads most of them.
A redeploy changes a file's format midway, so each line may also be tried against the others.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.known_formats import KNOWN
from meshml_dbx.traffic.log_format import LogFormat
from meshml_dbx.traffic.log_line import LogLine, read_line

SAMPLE_LINES = 200
"""How many lines are looked at."""


def detect_format(lines: Iterable[str], formats: Sequence[LogFormat] = KNOWN) -> LogFormat | None:
    """The format that reads most of these lines, None where none reads any.

    Of those that read equally many it is the one that fills most values, then the first given.

    >>> line = '[2026-03-04T09:15:20.000Z] "- - -" 0 - 480 1140 12 - "-" "-" "-" "-" "10.0.20.5:54"'
    >>> detect_format([line]).name
    'envoy-default'
    """
    sample = [line for line in islice(lines, SAMPLE_LINES) if line.strip()]
    best, best_score = None, (0, 0)
    for log_format in formats:
        score = _score(log_format, sample)
        if score > best_score:
            best, best_score = log_format, score
    return best


def _score(log_format: LogFormat, sample: Iterable[str]) -> tuple[int, int]:
    """How many lines it reads, and how many columns they fill."""
    read = filled = 0
    for line in sample:
        try:
            found = read_line(log_format, line)
        except BadLineError:
            continue
        read += 1
        filled += sum(value is not None for value in found.values.values())
    return read, filled


def read_any(
    formats: Sequence[LogFormat], line: str, *, observer: str | None = None
) -> tuple[LogFormat, LogLine]:
    """The line, read by the first of these formats that can, and that format.

    Give the file's own format first.

    Raises:
        BadLineError: none of them reads it; the reason is the first one's.

    >>> read_any(KNOWN, '{"method":"GET","path":"/","response_code":"200"}')[0].name
    'envoy-json'
    """
    reason: BadLineError | None = None
    for log_format in formats:
        try:
            return log_format, read_line(log_format, line, observer=observer)
        except BadLineError as error:
            reason = reason or error
    raise reason or BadLineError("no format to read it by")
