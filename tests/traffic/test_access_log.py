"""The one table of a record: its columns, the flavours in which values come, lines as words."""

import json
from dataclasses import fields

import pytest

from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CLIENT_FIELDS,
    CONNECTION_FIELDS,
    END_TYPE,
    FIELDS,
    RECORD_KEY,
    TYPE_KEY,
    BadLineError,
    Field,
    attempt_of,
    call_of,
    connection_of,
    micros_of,
    read_fields,
    read_number,
    read_text,
    read_time,
    time_text,
)
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.program_log import (
    MESH_FIELDS,
    PROGRAM_FIELDS,
    SAMPLE_FIELDS,
    STAGE_FIELDS,
)
from tests.traffic.real_lines import CLIENT_CALL, EGRESS_CALL, MICROS, TIME, full_line

TABLES = {
    "call": FIELDS,
    "attempt": ATTEMPT_FIELDS,
    "connection": CONNECTION_FIELDS,
    "stage": STAGE_FIELDS,
    "sample": SAMPLE_FIELDS,
    "program": PROGRAM_FIELDS,
    "mesh": MESH_FIELDS,
}


def columns(table: tuple[Field, ...]) -> set[str]:
    """The names of a table's columns."""
    return {field.column for field in table}


def names(word: type[Call] | type[Attempt] | type[Connection]) -> set[str]:
    """The names of a word's fields."""
    return {field.name for field in fields(word)}


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "word", "only_word", "only_table"),
    [
        (FIELDS, Call, {"pattern"}, set()),
        (ATTEMPT_FIELDS, Attempt, set(), {"type"}),
        (CONNECTION_FIELDS, Connection, set(), {"type"}),
    ],
    ids=["call", "attempt", "connection"],
)
def test_a_table_and_its_word_have_the_same_names(
    table: tuple[Field, ...],
    word: type[Call] | type[Attempt] | type[Connection],
    only_word: set[str],
    only_table: set[str],
) -> None:
    """A column is a field and a field a column, but for the line's type and what is computed."""
    assert names(word) - columns(table) == only_word
    assert columns(table) - names(word) == only_table


@pytest.mark.parametrize("name", TABLES)
def test_no_column_or_key_of_a_table_is_there_twice(name: str) -> None:
    """JSON keeps one of two equal keys, Delta none of two equal columns."""
    table = TABLES[name]
    assert len(columns(table)) == len(table)
    assert len({field.json_key() for field in table}) == len(table)


@pytest.mark.parametrize("name", TABLES)
def test_a_column_has_the_same_kind_and_unit_in_every_table(name: str) -> None:
    """One name means one thing, wherever a line comes from."""
    known = {f.column: (f.kind, f.unit) for table in TABLES.values() for f in table}
    assert {f.column: (f.kind, f.unit) for f in TABLES[name]}.items() <= known.items()


def test_units_are_in_the_names_of_durations() -> None:
    """Whoever reads a column need not look its unit up."""
    for field in FIELDS:
        assert (field.unit == "us") == field.column.endswith("_us")
        assert (field.unit == "ms") == field.column.endswith("_ms")


def test_the_record_key_sorts_before_every_other() -> None:
    """Envoy sorts keys, and readers look at how a line begins."""
    for table in TABLES.values():
        keys = sorted({RECORD_KEY, *(field.json_key() for field in table)})
        assert keys[:2] == [RECORD_KEY, TYPE_KEY]


def test_nothing_that_may_hold_a_secret_is_logged() -> None:
    """No query, cookie or authorization is ever asked of the proxy."""
    operators = " ".join(f.operator or "" for table in TABLES.values() for f in table).upper()
    for secret in ("AUTHORIZATION", "COOKIE", "QUERY", "%REQ(:PATH", "ORIGINAL-PATH"):
        assert secret not in operators
    assert "%PATH(NQ)%" in operators


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("0", 0),
        ("-1", -1),
        ("1e+05", 100_000),
        ("1.23457e+06", 1_234_570),
        ("7.0", 7),
        ('"7"', 7),
        ('"1e+05"', 100_000),
        ('"-"', None),
        ("null", None),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_number_is_read_in_whatever_flavour_it_comes(text: str, expected: int | None) -> None:
    """Envoy writes numbers as numbers, floats or texts, by version and size."""
    assert read_number(json.loads(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *('"abc"', '""', '"7 ms"', "[7]", '{"a": 7}', "1e400", '"inf"', '"nan"', "NaN"),
        *("9223372036854775808", "-9223372036854775809", "1e30", '"18446744073709551615"'),
    ],
)
def test_what_is_no_number_of_a_table_is_a_bad_line(text: str) -> None:
    """Nonsense, and what no 64-bit column can hold, goes to quarantine and stops nobody."""
    with pytest.raises(BadLineError, match="not a number"):
        read_number(json.loads(text))


def test_the_reason_of_a_bad_line_is_short() -> None:
    """A megabyte of noise in a field is not repeated in the quarantine's reason."""
    with pytest.raises(BadLineError) as caught:
        read_number("x" * 1_000_000)
    assert len(str(caught.value)) < 80


@pytest.mark.parametrize("value", [None, "-"])
def test_null_and_a_dash_are_no_text(value: object) -> None:
    """Envoy writes either where there is nothing."""
    assert read_text(value) is None


@pytest.mark.parametrize(("value", "expected"), [("", ""), ("a", "a"), (7, "7"), ("--", "--")])
def test_everything_else_is_a_text(value: object, expected: str) -> None:
    """An empty text is known to be empty."""
    assert read_text(value) == expected


@pytest.mark.parametrize(
    "micros", [0, 1, 999_999, MICROS, 951_782_400_000_000, 4_102_444_799_999_999]
)
def test_a_time_comes_back_to_the_microsecond(micros: int) -> None:
    """Writing and reading are each other's inverse, for leap days and ends of centuries too."""
    assert micros_of(time_text(micros)) == micros


def test_a_time_is_the_same_in_every_zone() -> None:
    """The stamp is UTC, and the number counts from 1970 in UTC."""
    assert (micros_of(TIME), time_text(MICROS)) == (MICROS, TIME)


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "-", 7, "2026-11-23", "2026-11-23T05:08:42Z", "2026-11-23 05:08:42.566797Z"),
        *("2026-13-23T05:08:42.566797Z", "2026-11-23T05:08:42.566797+", "x" * 27),
        "2026-11-23T05:08:42+00:00Z ",
    ],
)
def test_what_is_no_time_is_a_bad_line(value: object) -> None:
    """A record without a time can be joined with nothing."""
    with pytest.raises(BadLineError, match="not a time"):
        read_time(value)


# --- lines --------------------------------------------------------------------------------------


def test_a_real_line_becomes_a_call_value_by_value() -> None:
    """What the proxy wrote is what the call says; times are microseconds, a dash is nothing."""
    call = call_of(EGRESS_CALL)
    told = {f.column: getattr(call, f.column) for f in FIELDS}
    written = {f.column: EGRESS_CALL.get(f.json_key()) for f in FIELDS}
    assert told == written | {"start_time": MICROS, "flags": None, "attempt": 1}
    assert call.pattern == "GET /v1/labels/{}"
    assert (call.duration_us, call.end_time) == (40_123, MICROS + 40_123)


def test_the_real_line_has_every_key_of_the_table() -> None:
    """The sample grows with the table, else it would prove less each time."""
    keys = {RECORD_KEY, *(field.json_key() for field in FIELDS)}
    assert set(EGRESS_CALL) == keys - {field.json_key() for field in CLIENT_FIELDS}
    assert set(CLIENT_CALL) == keys


def test_what_only_the_process_knows_arrives_too() -> None:
    """A process that records itself tells thread, resource and Spark task of its call."""
    call = call_of(CLIENT_CALL)
    told = {f.column: getattr(call, f.column) for f in FIELDS}
    written = {f.column: CLIENT_CALL[f.json_key()] for f in FIELDS}
    assert told == written | {"start_time": MICROS}


def test_a_number_from_a_header_is_quoted() -> None:
    """Envoy writes what it takes from a header as a text, and other numbers as numbers."""
    numbers = [field for field in FIELDS if field.kind == "number"]
    texts = [f.column for f in numbers if isinstance(EGRESS_CALL.get(f.json_key()), str)]
    assert [f.column for f in numbers if f.is_quoted_number] == texts == ["attempt"]


def test_every_key_of_a_line_arrives_in_its_own_field() -> None:
    """No two columns are mixed up on the way."""
    call = call_of(full_line(FIELDS))
    for field in FIELDS:
        expected = {"number": 7, "time": MICROS}.get(field.kind, f"some {field.column}")
        assert getattr(call, field.column) == expected


def test_an_attempt_and_a_connection_are_read_alike() -> None:
    """The same table makes the parser of each record."""
    attempt = attempt_of(full_line(ATTEMPT_FIELDS))
    connection = connection_of(full_line(CONNECTION_FIELDS))
    assert (attempt.target, attempt.attempt, attempt.start_time) == ("some target", 7, MICROS)
    assert (connection.failure, connection.connection_id) == ("some failure", 7)


def test_keys_that_are_missing_or_unknown_do_not_stop_a_reader() -> None:
    """Logs of an older or newer version are still read; what they lack is not known."""
    call = call_of({"_type": END_TYPE, "start_time": TIME, "new_in_2030": 1})
    assert (call.type, call.start_time, call.code, call.client) == (END_TYPE, MICROS, None, None)
    assert call.pattern == "- -"


def test_a_line_without_a_time_is_no_call() -> None:
    """The error says what is wrong with it."""
    with pytest.raises(BadLineError, match="not a time: None"):
        call_of({key: value for key, value in EGRESS_CALL.items() if key != "start_time"})


def test_reading_leaves_the_line_as_it_was() -> None:
    """A decoded line may be read by several readers."""
    line = dict(EGRESS_CALL)
    read_fields(line, FIELDS)
    call_of(line)
    assert line == EGRESS_CALL


# --- the call -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "retries"), [(None, 0), (0, 0), (1, 0), (2, 1), (4, 3)])
def test_retries_are_the_attempts_after_the_first(attempts: int | None, retries: int) -> None:
    """A call that was answered by the proxy itself has no attempt, and no negative retries."""
    call = Call(type=END_TYPE, start_time=0, observer="egress", sidecar_id="a", attempts=attempts)
    assert call.retries == retries


@pytest.mark.parametrize(
    ("total_us", "duration_ms", "expected"),
    [(1500, 1, 1500), (None, 2, 2000), (None, None, 0), (0, 3, 0)],
)
def test_a_duration_is_the_exact_one_where_there_is_one(
    total_us: int | None, duration_ms: int | None, expected: int
) -> None:
    """A call cut off before its answer has only whole milliseconds."""
    call = Call(
        type=END_TYPE,
        start_time=10,
        observer="egress",
        sidecar_id="a",
        total_us=total_us,
        duration_ms=duration_ms,
    )
    assert (call.duration_us, call.end_time) == (expected, 10 + expected)


def test_a_connect_is_a_tunnel_and_nothing_else_is() -> None:
    """Https through the proxy is carried, not seen."""
    made = {
        method: Call(
            type=END_TYPE, start_time=0, observer="egress", sidecar_id="a", method=method
        ).is_tunnel
        for method in ("CONNECT", "GET", None)
    }
    assert made == {"CONNECT": True, "GET": False, None: False}
