"""Lines of closed log files as DataFrames: what kind of line each is, and its columns.

Goes in: paths. Comes out: one row per line, with its kind told from how it begins, since proxy
and supervisor write ``_record`` and ``_type`` first; parsing is then asked for one kind at a time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CONNECTION_FIELDS,
    END_TYPE,
    FIELDS,
    PERIODIC_TYPE,
    RECORD_KEY,
    START_TYPE,
    TYPE_KEY,
    UNFINISHED_TYPE,
    Field,
)
from meshml_dbx.traffic.log_folder import CLOSED
from meshml_dbx.traffic.log_source import FOREIGN_SUFFIX
from meshml_dbx.traffic.pattern import RULES
from meshml_dbx.traffic.program_log import (
    MESH_FIELDS,
    PROGRAM_FIELDS,
    SAMPLE_FIELDS,
    STAGE_FIELDS,
)

ENDINGS = (".jsonl", FOREIGN_SUFFIX)
CORRUPT = "_corrupt"
TIME_LENGTH = len("2026-11-23T05:08:42.566797Z")
GLUED = f'}}{{"{RECORD_KEY}"'
"""Where a line's end was lost: JSON readers would read the first of the two and drop the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of line: the records it holds and the table they go to, None where to nowhere.

    >>> [kind.table for kind in KINDS if kind.record == "mesh"]
    ['mesh_versions']
    """

    name: str
    record: str
    fields: tuple[Field, ...]
    table: str | None = None
    types: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """How such lines begin."""
        begin = f'{{"{RECORD_KEY}":"{self.record}",'
        return tuple(f'{begin}"{TYPE_KEY}":"{type_}"' for type_ in self.types) or (begin,)


KINDS: tuple[Kind, ...] = (
    Kind(name="ended", record="call", types=(END_TYPE,), fields=FIELDS, table="calls"),
    Kind(name="progress", record="call", types=(START_TYPE, PERIODIC_TYPE), fields=FIELDS),
    Kind(
        name="unfinished",
        record="call",
        types=(UNFINISHED_TYPE,),
        fields=FIELDS,
        table="unfinished_calls",
    ),
    Kind(name="attempts", record="attempt", fields=ATTEMPT_FIELDS, table="attempts"),
    Kind(name="connections", record="connection", fields=CONNECTION_FIELDS, table="connections"),
    Kind(
        name="stages",
        record="stage",
        types=("begin", "end"),
        fields=STAGE_FIELDS,
        table="run_stages",
    ),
    Kind(name="samples", record="sample", fields=SAMPLE_FIELDS, table="samples"),
    Kind(name="programs", record="program", fields=PROGRAM_FIELDS, table="programs"),
    Kind(name="meshes", record="mesh", fields=MESH_FIELDS, table="mesh_versions"),
)
KIND_NAMES = tuple(kind.name for kind in KINDS)
UNKNOWN, BLANK = "unknown", "blank"


def find_kind(name: str) -> Kind:
    """The kind of that name."""
    return next(kind for kind in KINDS if kind.name == name)


def closed_glob(logs: str) -> str:
    """What matches every closed file of a log folder, whatever its own name holds."""
    endings = ",".join(ENDINGS)
    return f"{literal_path(logs)}/*/{CLOSED}/*{{{endings}}}"


def closed_files(root: str) -> list[str]:
    """The finished files of a log folder, by the names that the lake knows them by."""
    return [
        f"{path.parent.parent.name}/{CLOSED}/{path.name}"
        for ending in ENDINGS
        for path in Path(root).glob(f"*/{CLOSED}/*{ending}")
    ]


def literal_path(path: str) -> str:
    """The path with the characters that Hadoop takes for patterns marked as plain ones."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", path)


def read_lines(spark: SparkSession, paths: Iterable[str]) -> DataFrame:
    """Every line of these files that is not empty: its text, kind and file."""
    text = spark.read.option("lineSep", "\n").text([literal_path(path) for path in paths])
    return text.select("value", F.col("_metadata.file_path").alias("log_file"), kind_of("value"))


def lines_of_kind(lines: DataFrame, kind: Kind, *, tidy: bool) -> DataFrame:
    """The lines of one kind; where all are ``tidy``, how they begin tells, which is quicker."""
    if not tidy:
        return lines.where(F.col("kind") == kind.name)
    return lines.where(_begins("value", kind.prefixes))


def is_tidy(name: str) -> Column:
    """Whether a line is of a kind that its first bytes tell."""
    return _begins(name, tuple(prefix for kind in KINDS for prefix in kind.prefixes))


def _begins(name: str, prefixes: tuple[str, ...]) -> Column:
    return reduce(Column.__or__, (F.col(name).startswith(prefix) for prefix in prefixes))


def kind_of(name: str) -> Column:
    """The kind of a line, ``unknown`` when it is none of ours, ``blank`` when it is nothing."""
    value = F.col(name)
    record = F.get_json_object(value, f"$.{RECORD_KEY}")
    type_ = F.get_json_object(value, f"$.{TYPE_KEY}")
    slow = F.when(value.rlike(r"^\s*$"), F.lit(BLANK))
    for kind in KINDS:
        fits = record == kind.record
        slow = slow.when(fits & type_.isin(*kind.types) if kind.types else fits, F.lit(kind.name))
    pairs = [(prefix, kind.name) for kind in KINDS for prefix in kind.prefixes]
    fast = F.when(value.startswith(pairs[0][0]), F.lit(pairs[0][1]))
    for prefix, kind_name in pairs[1:]:
        fast = fast.when(value.startswith(prefix), F.lit(kind_name))
    return fast.otherwise(slow.otherwise(F.lit(UNKNOWN))).alias("kind")


def parse_lines(lines: DataFrame, kind: Kind) -> DataFrame:
    """Lines of one kind as records, ``good`` where all their values could be read as they stand.

    Numbers that are written in another way (``1e+05``, ``"7"``) are not good here: see
    ``parse_slowly``. Parsing for the usual way costs a third less.
    """
    schema = _schema(kind.fields, number="BIGINT")
    parsed = lines.select("log_file", "value", _from_json(schema).alias("r"))
    columns = [_fast_column(field).alias(field.column) for field in kind.fields]
    return parsed.select("log_file", *columns, *_made(kind), _is_good(kind).alias("good"))


def parse_slowly(lines: DataFrame, kind: Kind) -> DataFrame:
    """The lines of one kind that ``parse_lines`` finds not good: read with patience.

    ``reason`` says what is wrong with a line, null when its values could be read after all.
    """
    strict, patient = (_schema(kind.fields, number=number) for number in ("BIGINT", "STRING"))
    found = (
        lines.where(F.col("kind") == kind.name)
        .withColumn("r", _from_json(strict))
        .where(~_is_good(kind))
        .withColumn("r", _from_json(patient))
    )
    columns = [_patient_column(field).alias(field.column) for field in kind.fields]
    rest = [name for name in lines.columns if name not in {field.column for field in kind.fields}]
    kept = [F.col(name) for name in rest]
    return found.select(*kept, *columns, *_made(kind, patient=True), _reason(kind).alias("reason"))


def pattern_of(method: Column, path: Column) -> Column:
    """Method and path template, by the same rules as ``traffic.pattern.pattern_of``."""
    template = reduce(lambda column, rule: F.regexp_replace(column, *rule), RULES, _or_dash(path))
    return F.concat(_or_dash(method), F.lit(" "), template)


def _or_dash(column: Column) -> Column:
    return F.coalesce(F.nullif(column, F.lit("")), F.lit("-"))


def _schema(fields: tuple[Field, ...], *, number: str) -> str:
    plain = {field for field in fields if field.kind == "number" and not field.is_quoted_number}
    columns = [f"`{field.json_key()}` {number if field in plain else 'STRING'}" for field in fields]
    return ", ".join((*columns, f"{CORRUPT} STRING"))


def _from_json(schema: str) -> Column:
    return F.from_json("value", schema, {"columnNameOfCorruptRecord": CORRUPT})


def _is_whole(name: str) -> Column:
    """Whether a line is one object and nothing else, and text; the JSON reader does not mind."""
    value = F.col(name)
    return (
        value.startswith("{")
        & F.rtrim(value).endswith("}")
        & ~F.contains(value, F.lit(GLUED))
        & F.is_valid_utf8(value)
    )


def _is_good(kind: Kind) -> Column:
    """Whether all values of a line could be read, parsed for the usual way of writing them."""
    whole = F.col(f"r.{CORRUPT}").isNull() & _is_whole("value") & _time(kind).isNotNull()
    quoted = (field for field in kind.fields if field.is_quoted_number)
    numbers = (_value(f).isNull() | _fast_column(f).isNotNull() for f in quoted)
    return reduce(Column.__and__, numbers, whole)


def _value(field: Field) -> Column:
    return F.col(f"r.`{field.json_key()}`")


def _text(field: Field) -> Column:
    """A text, or null for the dash that Envoy writes where there is none."""
    return F.nullif(_value(field), F.lit("-"))


def _fast_column(field: Field) -> Column:
    match field.kind:
        case "text":
            return _text(field)
        case "number":
            return _value(field).try_cast("BIGINT") if field.is_quoted_number else _value(field)
        case "time":
            return _as_time(_value(field))


def _patient_column(field: Field) -> Column:
    return _number(field) if field.kind == "number" else _fast_column(field)


def _number(field: Field) -> Column:
    """A whole number however it is written, as ``access_log.read_number`` takes it."""
    value = _value(field)
    return F.coalesce(value.try_cast("BIGINT"), value.try_cast("DOUBLE").try_cast("BIGINT"))


def _as_time(value: Column) -> Column:
    """The moment, as strict as ``access_log.micros_of``: null unless it has the one form."""
    has_form = (
        (F.length(value) == TIME_LENGTH) & (F.substring(value, 11, 1) == "T") & value.endswith("Z")
    )
    return F.when(has_form, value.try_cast("TIMESTAMP"))


def _time_field(kind: Kind) -> Field:
    return next(field for field in kind.fields if field.kind == "time")


def _time(kind: Kind) -> Column:
    return _as_time(_value(_time_field(kind)))


def _made(kind: Kind, *, patient: bool = False) -> list[Column]:
    """The columns that are no fields of the line but made from them."""
    by_name = {field.column: field for field in kind.fields}
    if "start_time" not in by_name:
        return []
    # Cut from the text, not from the moment, whose date depends on the session's time zone.
    date = F.substring(_value(by_name["start_time"]), 1, 10).try_cast("DATE").alias("event_date")
    if kind.record != "call":
        return [date]
    column = _patient_column if patient else _fast_column
    total, duration_ms = column(by_name["total_us"]), column(by_name["duration_ms"])
    return [
        pattern_of(_text(by_name["method"]), _text(by_name["path"])).alias("pattern"),
        F.coalesce(total, F.coalesce(duration_ms, F.lit(0)) * 1000).alias("duration_us"),
        date,
    ]


def _reason(kind: Kind) -> Column:
    """What is wrong with a line that was read with patience, null when nothing is."""
    broken = F.col(f"r.{CORRUPT}").isNotNull() | ~_is_whole("value")
    said = F.substring(_value(_time_field(kind)), 1, 40)
    reason = F.when(broken, F.lit("not JSON")).when(
        _time(kind).isNull(), F.concat(F.lit("not a time: "), F.coalesce(said, F.lit("none")))
    )
    for field in (field for field in kind.fields if field.kind == "number"):
        value = _value(field)
        is_number = value.isNull() | value.isin("-", "true", "false") | _number(field).isNotNull()
        text = F.concat(F.lit(f"not a number: {field.json_key()} "), F.substring(value, 1, 40))
        reason = reason.when(~is_number, text)
    return reason
