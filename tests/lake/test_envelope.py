"""The lines of a file, whatever is wrapped around them: its content tells, not its name."""

import gzip
import io

import pytest

from meshml_dbx.lake.envelope import Unwrapped, is_wrapped, unwrap
from tests.lake.test_firehose import CONTROL, DOCUMENTS, FORMS, GROUP, MESSAGES, document

LINES = b'{"start_time":"2026-03-04T09:15:01.114Z"}\n[2026] "GET /a}{"b HTTP/1.1"\r\n\xff\xfe\n'
EVERY = "".join(f"{one}\n" for number in range(5) for one in (*MESSAGES, f"of {number}")).encode()


def read(data: bytes) -> tuple[bytes, Unwrapped]:
    """All lines, and what was seen."""
    seen = Unwrapped()
    return b"".join(unwrap(io.BytesIO(data), seen)), seen


@pytest.mark.parametrize("form", FORMS)
def test_the_lines_of_every_form(form: str) -> None:
    """However Firehose was told to write, the lines are the same, and the group is known."""
    lines, seen = read(FORMS[form])
    assert (lines, seen.groups, seen.notices) == (EVERY, [GROUP], [])


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_plain_lines_stay_as_they_are(times: int) -> None:
    """To the byte, also where they are no text; only compression comes off."""
    data = LINES
    for _ in range(times):
        data = gzip.compress(data)
    lines, seen = read(data)
    assert (lines, seen.is_envelope, is_wrapped(data)) == (LINES, False, times > 0)


def test_messages_that_are_glued_together_are_cut() -> None:
    """Firehose writes bare messages without a line end, unless it is told to."""
    messages = [f'{{"start_time":"2026-03-04T09:15:{n:02}.114Z","path":"/a"}}' for n in range(20)]
    assert read("".join(messages).encode())[0].decode().splitlines() == messages


def test_an_event_that_is_there_twice_comes_once() -> None:
    """By its id; a line that two events have comes twice."""
    twice = DOCUMENTS[0] + DOCUMENTS[1] + DOCUMENTS[0]
    assert read(twice)[0] == b"".join(EVERY.splitlines(keepends=True)[:10])
    assert read(document(7, ["same", "same"]))[0] == b"same\nsame\n"


def test_what_cannot_be_read_is_told() -> None:
    """A damaged member costs its own lines; what tells nothing leaves nothing."""
    packed = [gzip.compress(one) for one in DOCUMENTS]
    lines, seen = read(packed[0] + packed[1][:40] + b"".join(packed[2:]))
    assert (lines.count(b"\n"), len(seen.notices)) == (20, 1)
    assert "gzip member" in seen.notices[0]
    cut = gzip.compress(b"a\nb") + b"\x1f\x8b\x08\0garbage"
    lines, seen = read(cut)
    assert (lines[:3], len(seen.notices)) == (b"a\nb", 1)
    assert read(CONTROL) == (b"", Unwrapped(is_envelope=True))
    assert read(b"") == (b"", Unwrapped())
