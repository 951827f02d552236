"""One event of a CloudWatch log group, by whichever road it came.

It is made by the million, so it is a tuple.
"""

from typing import NamedTuple


class LogEvent(NamedTuple):
    """A message and where it was logged; what a road does not carry is None.

    ``event_id`` is the same on every road and each time an event is delivered, ``timestamp_us``
    counts microseconds since 1970 UTC.

    >>> LogEvent(message="GET / 200").log_group is None
    True
    """

    event_id: str | None = None
    timestamp_us: int | None = None
    message: str = ""
    log_group: str | None = None
    log_stream: str | None = None


def clean_text(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair, which JSON allows, is written out.

    >>> clean_text("ok \\ud800")
    'ok \\\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
