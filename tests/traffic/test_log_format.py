"""Compiling any log format: what operators mean, how values are told apart, what is refused."""

import re

import pytest

from meshml_dbx.errors import LogFormatError
from meshml_dbx.traffic.access_log import CONNECTION_FIELDS, FIELDS
from meshml_dbx.traffic.known_formats import ENVOY_DEFAULT, KNOWN
from meshml_dbx.traffic.log_format import (
    LogFormat,
    SplitField,
    json_format,
    scan_format,
    text_format,
)
from meshml_dbx.traffic.log_operators import value_of

# --- operators ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operator",
    [field.operator for table in (FIELDS, CONNECTION_FIELDS) for field in table if field.operator],
)
def test_each_operator_of_the_table_fills_its_own_column(operator: str) -> None:
    """What our own proxies are asked for is known wherever it is asked for."""
    columns = {
        field.column
        for table in (FIELDS, CONNECTION_FIELDS)
        for field in table
        if field.operator == operator
    }
    assert {value_of(operator[1:-1]).column} == columns


@pytest.mark.parametrize(
    ("operator", "column", "multiply", "divide"),
    [
        ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", "path", 1, 1),
        ("REQUEST_HEADER(:path):80", "path", 1, 1),
        ("REQ_WITHOUT_QUERY(:PATH)", "path", 1, 1),
        ("PATH(WQ:ORIG_OR_PATH)", "path", 1, 1),
        ("REQ(:authority)", "authority", 1, 1),
        ("REQ(X-FORWARDED-HOST?:AUTHORITY)", "authority", 1, 1),
        ("RESP(x-envoy-upstream-service-time)", "first_byte_us", 1000, 1),
        ("RESPONSE_HEADER(X-ENVOY-UPSTREAM-SERVICE-TIME)", "first_byte_us", 1000, 1),
        ("COMMON_DURATION(US_TX_END:US_RX_BEG)", "first_byte_us", 1000, 1),
        ("COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)", "total_us", 1, 1000),
        ("DURATION", "duration_ms", 1, 1),
        ("ACCESS_LOG_TYPE", "type", 1, 1),
        ("REQ(TRACEPARENT)", "trace_parent", 1, 1),
        ("RESPONSE_FLAGS_LONG", "flags", 1, 1),
        ("UPSTREAM_CLUSTER_RAW", "upstream_cluster", 1, 1),
        ("START_TIME(%s.%3f)", "start_time", 1, 1),
    ],
)
def test_an_operator_is_known_by_its_meaning(
    operator: str, column: str, multiply: int, divide: int
) -> None:
    """Aliases, alternates, lengths, cases and units do not hide what a value is."""
    value = value_of(operator)
    assert (value.column, value.multiply, value.divide) == (column, multiply, divide)


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("REQ(USER-AGENT):40", "user_agent"),
        ("REQ(X-FORWARDED-FOR)", "forwarded_for"),
        ("GRPC_STATUS", "grpc_status"),
        ("TRACE_ID", "trace_id"),
        ("REQ(X-TEAM)", "REQ(X-TEAM)"),
        ("COMMON_DURATION(DS_RX_BEG:NO_SUCH:us)", "COMMON_DURATION(DS_RX_BEG:NO_SUCH:us)"),
        ("START_TIME(%H:%M)", "START_TIME(%H:%M)"),
        ("START_TIME_LOCAL(%Y-%m-%dT%H:%M:%S)", "START_TIME_LOCAL(%Y-%m-%dT%H:%M:%S)"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_what_has_no_column_has_a_name(operator: str, name: str) -> None:
    """Nothing is dropped: a moment that is none and an operator of tomorrow are kept as text."""
    value = value_of(operator)
    assert (value.column, value.name) == (None, name)


# --- text formats -------------------------------------------------------------------------------


def test_a_format_string_is_literal_texts_and_values() -> None:
    """Percent signs are doubled, arguments may hold them."""
    parts = list(scan_format("100%% %START_TIME(%Y/%m/%dT%H:%M:%S)%|%REQ(A?B):7%"))
    shown = [part if isinstance(part, str) else (part.operator,) for part in parts]
    assert shown == ["100% ", ("START_TIME(%Y/%m/%dT%H:%M:%S)",), "|", ("REQ(A?B):7",)]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a %", 2),
        ("%PROTOCOL", 0),
        ("%protocol%", 0),
        ("%PROTOCOL% %REQ(:PATH%", 11),
        ("%REQ(A% %REQ(B)%", 0),
        ("ab\ncd", 2),
    ],
)
def test_a_malformed_format_is_refused_at_its_position(text: str, position: int) -> None:
    """Whoever wrote it finds the place, and is told what to write."""
    with pytest.raises(LogFormatError, match=f"position {position}") as caught:
        text_format(text)
    assert caught.value.advice


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\\n"])
def test_the_end_of_the_line_is_no_part_of_a_format(ending: str) -> None:
    """Envoy's authors add it, a shell passes it as two characters: it is one format."""
    made, plain = (
        text_format(f"%PROTOCOL% %DURATION%{ending}"),
        text_format("%PROTOCOL% %DURATION%"),
    )
    assert (made.name, made.pattern) == (plain.name, plain.pattern)


def test_a_format_without_a_name_has_one_by_what_it_says() -> None:
    """The same text has the same name everywhere, another text another."""
    names = {text_format(text).name for text in ("%DURATION%", "%DURATION%\n", "%PROTOCOL%")}
    assert len(names) == 2
    assert all(re.fullmatch("custom-[0-9a-f]{8}", name) for name in names)


def test_values_that_touch_are_kept_as_one() -> None:
    """Nothing says where the first ends, so neither fills a column."""
    made = text_format("%RESPONSE_CODE%%REQ(X-A)% %DURATION%")
    assert made.columns == ("duration_ms",)
    assert re.match(made.pattern, "200a b 7").groups() == ("200a b", "7")  # type: ignore[union-attr]  # it matches


def test_no_two_values_have_one_name() -> None:
    """What is asked for twice is kept twice."""
    made = text_format("%REQ(X-A)% %REQ(X-A)% %REQ(X-A)%|%REQ(USER-AGENT)% %REQ(USER-AGENT):9%")
    assert len({value.name for value in made.values}) == 5


def test_what_says_a_column_exactly_comes_before_what_says_it_nearly() -> None:
    """Envoy's own duration of the first byte is better than the header's milliseconds."""
    made = text_format(
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %COMMON_DURATION(US_TX_END:US_RX_BEG:us)%"
    )
    assert made.sources == {"first_byte_us": (1, 0)}


def test_a_format_knows_which_columns_it_can_know() -> None:
    """The default text cannot show a TLS fault, so its absence means nothing."""
    assert "upstream_failure" not in ENVOY_DEFAULT.columns
    assert {"start_time", "code", "flags", "first_byte_us"} <= set(ENVOY_DEFAULT.columns)


# --- patterns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "log_format", [it for it in KNOWN if it.kind == "text"], ids=lambda f: f.name
)
def test_a_pattern_has_one_plain_group_for_each_value(log_format: LogFormat) -> None:
    """Java reads it as Python does: no names, no possessive or atomic groups, no inline flags."""
    assert re.compile(log_format.pattern).groups == len(log_format.values)
    assert not re.search(r"\(\?(?![:=!])|[*+?}]\+|\\[AzZ]", log_format.pattern)


def test_no_repetition_of_a_pattern_holds_another() -> None:
    """A group that is repeated without bound is where backtracking explodes and Java recurses."""
    for log_format in KNOWN:
        assert not re.search(r"\)[*+]|\)\{", log_format.pattern)


def test_two_values_that_a_caller_writes_are_told_apart_where_something_stands_between() -> None:
    """The path may hold blanks, the user agent quotes, and neither takes from the other."""
    made = text_format('{"p":"%REQ(:PATH)%","c":%RESPONSE_CODE%,"ua":"%REQ(USER-AGENT)%"}')
    found = re.match(made.pattern, '{"p":"/a "b","c":200,"ua":"x","y": "z"}')
    assert found
    assert found.groups() == ('/a "b', "200", 'x","y": "z')


def test_a_line_that_reads_in_two_ways_is_refused() -> None:
    """A user agent that plays the middle of the line must not move the path's end."""
    made = text_format("%REQ(:PATH)% code=%RESPONSE_CODE% %REQ(USER-AGENT)%")
    assert re.match(made.pattern, "/a b code=200 curl")
    assert not re.match(made.pattern, "/a b code=200 curl code=500 x")
    assert not re.match(text_format("%REQ(A)% %DURATION% %REQ(B)%").pattern, "a 5 6 b")


def test_flags_may_stand_between_commas() -> None:
    """Their own commas are told from the format's."""
    made = text_format("%RESPONSE_CODE%,%RESPONSE_FLAGS%,%BYTES_SENT%")
    assert re.match(made.pattern, "503,URX,UF,12").groups() == ("503", "URX,UF", "12")  # type: ignore[union-attr]  # it matches


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("%RESPONSE_CODE%-%DURATION%", "200-7"),
        ("%RESPONSE_CODE%.%DURATION%", "200.7"),
        ("[%PROTOCOL%][%REQ(X-A)%]^%REQ(X-B)%$", "[HTTP/2][a b]^c$d$"),
        ("a=%REQ(X-A)% k=%REQ(X-B)% k=%REQ(X-C)% k=%REQ(X-D)%", "a=1 k=2 k=3 k=4"),
        ("%REQ(X-A)%\t%REQ(USER-AGENT)%\t%DURATION%", "a b\tc d\t7"),
        ("%REQ(X-A)%|%REQ(X-B)%|%REQ(X-C)%", "a b|c|d e"),
    ],
)
def test_a_line_of_a_format_is_read_by_it(text: str, line: str) -> None:
    """Whatever separates the values, and whatever a regular expression thinks of it."""
    assert re.match(text_format(text).pattern, line)


# --- the fast path ------------------------------------------------------------------------------


def test_the_default_format_is_thirteen_fields() -> None:
    """The time in brackets, the request line of three, and eleven more."""
    split = ENVOY_DEFAULT.split
    assert split is not None
    assert len(split) == 13
    assert split[0] == SplitField(values=(0,), is_quoted=False, before="[", after="]")
    assert split[1] == SplitField(values=(1, 2, 3), is_quoted=True)
    assert [it.values for it in split[2:]] == [(n,) for n in range(4, 15)]
    assert [it.is_quoted for it in split] == [False, True, *[False] * 6, *[True] * 5]


@pytest.mark.parametrize(
    "text",
    [
        "%DURATION%  %PROTOCOL%",
        "%DURATION%|%PROTOCOL% x",
        '"a%PROTOCOL%"',
        '"%DURATION%',
        "[%START_TIME(%Y-%m-%d %H:%M:%S)%] %DURATION%",
        "%DURATION% ",
        "",
        "a\\b %DURATION%",
    ],
)
def test_a_format_that_is_not_made_of_fields_has_no_fast_path(text: str) -> None:
    """Two blanks, values that share a field, prefixes in quotes, blanks in a bare time."""
    assert text_format(text).split is None


def test_a_word_of_the_format_is_a_field_without_values() -> None:
    """It is there in every line and must be counted."""
    split = text_format("access code=%RESPONSE_CODE%").split
    assert split == (
        SplitField(values=(), is_quoted=False, before="access"),
        SplitField(values=(0,), is_quoted=False, before="code="),
    )


# --- JSON formats -------------------------------------------------------------------------------


def test_app_meshs_list_and_envoys_mapping_are_one_format() -> None:
    """Both name keys and templates."""
    pairs = json_format([{"key": "status", "value": "%RESPONSE_CODE%"}])
    assert pairs == json_format({"status": "%RESPONSE_CODE%"})


def test_a_json_template_is_read_by_what_its_keys_hold() -> None:
    """Nested keys are paths; constants, lists and mixtures are kept under their key."""
    made = json_format(
        {
            "a": {"code": "%RESPONSE_CODE%", "who": "%REQ(X-TEAM)%"},
            "line": "%REQ(:METHOD)% %PROTOCOL%",
            "env": "prod",
            "number": 7,
            "ua": "%REQ(USER-AGENT)%",
        }
    )
    assert [(value.key, value.column, value.name) for value in made.values] == [
        (("a", "code"), "code", "code"),
        (("a", "who"), None, "a.who"),
        (("line",), None, "line"),
        (("env",), None, "env"),
        (("number",), None, "number"),
        (("ua",), None, "user_agent"),
    ]


def test_a_malformed_template_names_its_key() -> None:
    """A long format has many."""
    with pytest.raises(LogFormatError, match=r"key 'a\.b'.*position 2"):
        json_format({"a": {"b": "x %y%"}})
    with pytest.raises(LogFormatError, match="entry 0"):
        json_format([{"name": "a"}])
