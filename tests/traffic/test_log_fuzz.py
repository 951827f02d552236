"""Any text is read or refused, soon, and what a proxy wrote is read back as it was."""

import csv
import json
import time
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshml_dbx.errors import LogFormatError
from meshml_dbx.traffic.access_log import BadLineError, time_text
from meshml_dbx.traffic.detect_format import detect_format
from meshml_dbx.traffic.known_formats import ENVOY_DEFAULT, ENVOY_TEXT, KNOWN, known_format
from meshml_dbx.traffic.log_format import LogFormat, json_format, text_format
from meshml_dbx.traffic.log_line import LogLine, read_line
from tests.traffic.log_samples import DEFAULT_LINE, ENVOY_JSON_LINE, ONE_OF_EACH

CUSTOM = [
    text_format(text)
    for text in (
        "BlueTestLog:%LOCAL_REPLY_BODY%:%RESPONSE_CODE%:path=%REQ(:path)%",
        '{"t":"%START_TIME%","p":"%REQ(:PATH)%","c":%RESPONSE_CODE%,"ua":"%REQ(USER-AGENT)%"}',
        'ua=%REQ(USER-AGENT)% ref=%REQ(REFERER)% code=%RESPONSE_CODE% b="%REQ(X-B)%"',
        "%RESPONSE_CODE%,%RESPONSE_FLAGS%,%REQ(X-A)%,%RESPONSE_FLAGS%,%RESPONSE_FLAGS%",
        "%REQ(X-A)%|%REQ(X-B)%|%REQ(USER-AGENT)%|%DURATION%|%REQ(:PATH)%",
        "%RESPONSE_CODE%-%BYTES_SENT%-%DURATION%-%REQ(USER-AGENT)%-%CONNECTION_ID%",
        "%START_TIME(%d/%b/%Y:%H:%M:%S %z)% %REQ(X-A)% x %DURATION% %REQ(X-B)% y %DURATION%",
    )
]
PIECES = [
    *(" ", '"', '" "', "- ", "0 ", "UF,", "1,", "-", "a", '":"', "{", "[", "|", "\\", "é", ":"),
    *(' HTTP/1.1" 200 ', ' HTTP/1.1" 200 - 1 2 3 4 "', ' HTTP/1.1" 200 - 1 2 3 4 "-" "', '" "a" "'),
    *(":200:path=", ' code=5 b="', '","c":5,"ua":"', " x 7 ", "[2026-03-04T09:15:02.114Z] ", "\n"),
    *('"GET /', "BlueTestLog:", "ua=", "ref=", '{"t":"2026-03-04T09:15:02.114Z","p":"', "5-", "\0"),
]


def read_or_refuse(log_format: LogFormat, line: str) -> LogLine | None:
    """The line, or None where it is refused; any other error is the test's."""
    try:
        return read_line(log_format, line)
    except BadLineError:
        return None


# --- any text -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from(PIECES), max_size=20).map("".join),
        st.binary(max_size=100).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another exception, whatever the format."""
    for log_format in (*KNOWN, *CUSTOM):
        read_or_refuse(log_format, text)
    detect_format([text, text])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_line_is_read_or_refused(data: st.DataObject) -> None:
    """A real line with a piece cut out and another put in."""
    line = data.draw(st.sampled_from([*ONE_OF_EACH.values()]))
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 9)))
    piece = data.draw(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)))
    for log_format in KNOWN:
        read_or_refuse(log_format, line[:start] + piece + line[end:])


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_json_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever stands under the keys that we know."""
    given_keys = data.draw(st.dictionaries(st.sampled_from(sorted(
        {value.key[0] for it in KNOWN for value in it.values if value.key}
    )), JSON_VALUES, max_size=5))  # fmt: skip
    whole = json.dumps({**json.loads(ENVOY_JSON_LINE), **given_keys})
    for line in (json.dumps(given_keys), whole):
        for log_format in KNOWN:
            read_or_refuse(log_format, line)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    *("%", "%%", "%PROTOCOL%", "%DURATION%", "%REQ(USER-AGENT)%", "%REQ(:PATH)%"),
                    *(
                        "%START_TIME(%s%3f)%",
                        "%START_TIME%",
                        "%RESPONSE_FLAGS%",
                        " ",
                        '"',
                        "a",
                        "5",
                    ),
                    *("-", ".", "e", ",", "[", "]", "^", "\\", "|", "&&", "%REQ(A?B):9%", "$", "("),
                ]
            ),
            max_size=12,
        ).map("".join),
    )
)
def test_any_format_is_compiled_or_refused(text: str) -> None:
    """And what is compiled reads any line or refuses it."""
    try:
        log_format = text_format(text)
    except LogFormatError:
        return
    for line in ("", "-", "HTTP/2 5", DEFAULT_LINE, text):
        read_or_refuse(log_format, line)


# --- soon ---------------------------------------------------------------------------------------

SIZE = 1_000_000


@pytest.mark.parametrize("piece", [piece for piece in PIECES if piece not in ("\n", "\0")])
def test_a_megabyte_is_read_or_refused_within_a_second(piece: str) -> None:
    """However it is made, a line takes time in proportion to its length."""
    hostile = piece * (SIZE // len(piece))
    start = '[2026-03-04T09:15:02.114Z] "GET '
    middle = ' HTTP/1.1" 200 - 1 2 3 4 "-" "'
    cases = {
        hostile: CUSTOM,
        start + hostile: [ENVOY_DEFAULT],
        start + "/" + middle + hostile: [ENVOY_DEFAULT, known_format("istio-default")],
        start + hostile + middle + 'ua" "r" "a" "h"': [ENVOY_DEFAULT],
        f"BlueTestLog:{hostile}": CUSTOM[:1],
        f'{{"t":"2026-03-04T09:15:02.114Z","p":"{hostile}': CUSTOM[1:2],
        f"ua={hostile}": CUSTOM[2:3],
        f"200,{hostile}": CUSTOM[3:4],
        f"5-5-5-{hostile}": CUSTOM[5:6],
        f"04/Mar/2026:09:15:02 +0000 {hostile}": CUSTOM[6:],
        '{"method":"GET","path":' + hostile + "}": [known_format("envoy-json")],
    }
    for line, formats in cases.items():
        for log_format in formats:
            before = time.process_time()
            read_or_refuse(log_format, line)
            assert time.process_time() - before < 1


# --- written and read back ----------------------------------------------------------------------

PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'))
QUOTELESS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'))
ANYTHING = st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"]))
COUNT = st.integers(0, 2**40)

CALLS = st.fixed_dictionaries(
    {
        "REQ(:METHOD)": st.sampled_from(["GET", "POST", "PATCH"]),
        "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)": ANYTHING.map("/{}".format),
        "PROTOCOL": st.sampled_from(["HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"]),
        "RESPONSE_CODE": st.integers(100, 599).map(str),
        "RESPONSE_FLAGS": st.sampled_from(["-", "UF", "UF,URX", "UMSDR"]),
        "BYTES_RECEIVED": COUNT.map(str),
        "BYTES_SENT": COUNT.map(str),
        "DURATION": COUNT.map(str),
        "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)": COUNT.map(str),
        "REQ(X-FORWARDED-FOR)": QUOTELESS,
        "REQ(USER-AGENT)": ANYTHING,
        "REQ(X-REQUEST-ID)": PLAIN,
        "REQ(:AUTHORITY)": PLAIN,
        "UPSTREAM_HOST": PLAIN.filter(lambda text: not text.startswith("tcp://")),
    }
)
MOMENTS = st.integers(0, 4_000_000_000_000).map(lambda millis: millis * 1000)


def render(log_format: LogFormat, values: Mapping[str, str]) -> str:
    """The line that Envoy writes of these values: nothing is escaped, nothing is a dash."""
    return "".join(
        part if isinstance(part, str) else (values[part.operator] or "-")
        for part in log_format.parts
    )


def expected_of(values: Mapping[str, str], start: int) -> dict[str, str | int | None]:
    """Columns and kept values of a rendered call."""
    read: dict[str, str | int | None] = {
        "start_time": start,
        "method": values["REQ(:METHOD)"],
        "path": values["REQ(X-ENVOY-ORIGINAL-PATH?:PATH)"],
        "protocol": values["PROTOCOL"],
        "code": int(values["RESPONSE_CODE"]),
        "flags": values["RESPONSE_FLAGS"],
        "bytes_in": int(values["BYTES_RECEIVED"]),
        "bytes_out": int(values["BYTES_SENT"]),
        "duration_ms": int(values["DURATION"]),
        "first_byte_us": int(values["RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)"]) * 1000,
        "request_id": values["REQ(X-REQUEST-ID)"],
        "authority": values["REQ(:AUTHORITY)"],
        "upstream_host": values["UPSTREAM_HOST"],
        "forwarded_for": values["REQ(X-FORWARDED-FOR)"],
        "user_agent": values["REQ(USER-AGENT)"],
    }
    return {name: None if value in ("", "-") else value for name, value in read.items()}


def _millis(micros: int) -> str:
    return f"{time_text(micros)[:23]}Z"


def _epoch(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros // 1000 % 1000:03}"


_WORDS = "%START_TIME(%s.%3f)% p=%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% " + (
    ENVOY_TEXT.partition("] ")[2].replace(" %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "")
)
TIMED: dict[str, tuple[LogFormat, Callable[[int], str]]] = {
    "envoy-default": (ENVOY_DEFAULT, _millis),
    "seconds and words": (text_format(_WORDS), _epoch),
}


@pytest.mark.parametrize("name", TIMED)
@settings(max_examples=200, deadline=None)
@given(CALLS, MOMENTS)
def test_what_is_written_as_text_is_read_back_unaltered(
    name: str, values: dict[str, str], start: int
) -> None:
    """Quotes and blanks in a user agent, blanks in a path: each value is the one that was sent."""
    log_format, write_time = TIMED[name]
    operator = next(value.operator for value in log_format.values if value.kind == "time")
    line = read_line(log_format, render(log_format, {**values, operator: write_time(start)}))
    read = {**dict.fromkeys(("user_agent", "forwarded_for")), **line.values, **line.more}
    read.pop("observer")
    assert read == expected_of(values, start)


HOSTILE = st.lists(st.sampled_from([piece for piece in PIECES if piece != "\n"]), max_size=6)


@pytest.mark.parametrize("name", TIMED)
@settings(max_examples=400, deadline=None)
@given(CALLS, HOSTILE.map("".join), HOSTILE.map("/".join))
def test_a_hostile_header_is_read_right_or_refused(
    name: str, values: dict[str, str], agent: str, path: str
) -> None:
    """Whatever a caller plays, no line is taken for another one."""
    log_format, write_time = TIMED[name]
    operator = next(value.operator for value in log_format.values if value.kind == "time")
    forged = {"REQ(USER-AGENT)": agent, "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)": f"/{path}"}
    written = {**values, **forged}
    line = read_or_refuse(log_format, render(log_format, {**written, operator: write_time(0)}))
    if line is not None:
        read = {**dict.fromkeys(("user_agent", "forwarded_for")), **line.values, **line.more}
        read.pop("observer")
        assert read == expected_of(written, 0)


@settings(max_examples=100, deadline=None)
@given(CALLS, MOMENTS)
def test_what_is_written_as_json_is_read_back_unaltered(values: dict[str, str], start: int) -> None:
    """The same values under keys, escaped as JSON does."""
    log_format = json_format(
        {"start": "%START_TIME%", "in": {key: f"%{key}%" for key in values}}, name="nested"
    )
    line = read_line(log_format, json.dumps({"start": time_text(start), "in": values}))
    read = {**dict.fromkeys(("user_agent", "forwarded_for")), **line.values, **line.more}
    read.pop("observer")
    assert read == expected_of(values, start)


@settings(max_examples=200, deadline=None)
@given(CALLS, MOMENTS)
def test_the_fast_path_reads_what_the_pattern_does(values: dict[str, str], start: int) -> None:
    """Where a line has the fields, two quotes for each quoted one and no backslash."""
    written = {**values, "START_TIME": f"{time_text(start)[:23]}Z"}
    line = render(ENVOY_DEFAULT, written)
    split = ENVOY_DEFAULT.split
    assert split is not None
    fields = next(csv.reader([line], delimiter=" ", quotechar='"'))
    quotes = 2 * sum(it.is_quoted for it in split)
    if len(fields) != len(split) or line.count('"') != quotes or "\\" in line:
        return
    found: list[str] = []
    for it, text in zip(split, fields, strict=True):
        inner = text[len(it.before) : len(text) - len(it.after)]
        found += inner.split(" ") if len(it.values) > 1 else [inner]
    if len(found) == len(ENVOY_DEFAULT.values):
        rendered = [written[value.operator] or "-" for value in ENVOY_DEFAULT.values]
        assert found == rendered
