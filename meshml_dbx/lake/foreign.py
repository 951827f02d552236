"""Lines of logs that others wrote, as rows: one way for every format.

Goes in: lines, their format and whose they are. Comes out: a row a line with what it is (a call, an
attempt, a connection, progress), all columns that any of these has, what has no column in ``more``,
and the reason where a line cannot be read. Query values, credentials and persons are taken out
here, before any table.
"""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.foreign_readers import (
    present,
    read_value,
    scrubbed,
    scrubbed_addresses,
)
from meshml_dbx.lake.foreign_values import (
    LINE,
    Found,
    decode_lines,
    match_lines,
    split_lines,
)
from meshml_dbx.lake.sources import pattern_of
from meshml_dbx.lake.tables import CALL_COLUMNS, CONNECTION_COLUMNS
from meshml_dbx.traffic.access_log import CONNECTION_FIELDS, FIELDS, START_TIME
from meshml_dbx.traffic.log_format import LogFormat
from meshml_dbx.traffic.log_line import (
    EGRESS_CLUSTER,
    INGRESS_CLUSTER,
    LEAST_KNOWN,
    LOOPBACK,
    OWN_LOG,
    RECORDS,
    REQUEST_COLUMNS,
)
from meshml_dbx.traffic.log_source import LogSource
from meshml_dbx.traffic.scrub import HIDDEN_NAME, QUERY_VALUE, REMOVED, is_secret_name

COLUMNS: dict[str, str] = dict((*CONNECTION_COLUMNS, *CALL_COLUMNS))
"""Every column that a line may fill, and its type."""
CALL_ONLY = {field.column for field in FIELDS} - {field.column for field in CONNECTION_FIELDS}
CONNECTION_ONLY = {field.column for field in CONNECTION_FIELDS} - {field.column for field in FIELDS}
FREE_TEXTS = ("path", "authority", "details", "upstream_failure", "failure", "downstream_subject")
"""Columns into which a caller, or an error, may put anything."""
QUERY = "query"
FORWARDED_FOR = "forwarded_for"
SHOWN = 40
RECORD, REASON = "record", "reason"
FOUND, UNKNOWN, BARRIER = "found", "unknown_keys", "barrier"


def parse_foreign(lines: DataFrame, log_format: LogFormat, source: LogSource) -> DataFrame:
    """The lines as rows, the simple way where that is enough; ``reason`` is null where all is well.

    What the lines have beside ``value`` is kept.
    """
    if log_format.kind == "text" and log_format.split is not None:
        return _rows(split_lines(lines, log_format), log_format, source, lines.columns)
    return parse_patiently(lines, log_format, source)


def parse_patiently(lines: DataFrame, log_format: LogFormat, source: LogSource) -> DataFrame:
    """The same lines as ``parse_foreign``, none of them the quick way: for those it cannot read."""
    find = decode_lines if log_format.kind == "json" else match_lines
    return _rows(find(lines, log_format), log_format, source, lines.columns)


def _rows(found: Found, log_format: LogFormat, source: LogSource, kept: list[str]) -> DataFrame:
    """Step by step, with names for what the next step needs: as one, Spark plans for minutes."""
    texts = [present(text).alias(_t(at)) for at, text in enumerate(found.texts)]
    unknown = [] if found.unknown is None else [found.unknown.alias(UNKNOWN)]
    texted = found.lines.select(*kept, found.found.alias(FOUND), *unknown, *texts)
    first = [_first_text(log_format, column).alias(_f(column)) for column in log_format.sources]
    chosen = texted.select("*", *first)
    read = [_read(log_format, column).alias(_v(column)) for column in log_format.sources]
    valued = chosen.select("*", *read)
    known = {column: F.col(_v(column)) for column in log_format.sources}
    recorded = valued.select("*", _record(known).alias(RECORD))
    row = _row(log_format, source, known)
    stored = (_stored(name, row.get(name)).cast(kind).alias(name) for name, kind in COLUMNS.items())
    return recorded.select(
        *kept, RECORD, *stored, _reason(log_format).alias(REASON), _barrier().alias(BARRIER)
    )


def _barrier() -> Column:
    """What keeps Spark from moving a condition on ``reason`` below the columns that it is made of.

    It would write each column out in full wherever it is named, and plan for minutes.
    """
    return F.monotonically_increasing_id()


def is_read() -> Column:
    """Whether a line could be read."""
    return F.col(REASON).isNull() & (F.col(BARRIER) >= 0)


def is_unread() -> Column:
    """Whether a line could not be read."""
    return F.col(REASON).isNotNull() & (F.col(BARRIER) >= 0)


def _t(at: int) -> str:
    return f"text_{at}"


def _f(column: str) -> str:
    return f"first_{column}"


def _v(column: str) -> str:
    return f"value_{column}"


def _row(
    log_format: LogFormat, source: LogSource, known: Mapping[str, Column]
) -> dict[str, Column]:
    """Columns by name: what the user said, what the line says, and what is made of that."""
    observer = source.observer or log_format.observer
    return {
        **_constants(source),
        **known,
        **_made(known),
        "observer": F.lit(observer) if observer else _observer(known),
        "format": F.lit(log_format.name),
        "more": _more(log_format, known),
        "line_key": F.xxhash64(LINE),
    }


def _stored(name: str, column: Column | None) -> Column:
    """A column as it may be stored; null where the format has no such thing."""
    if column is None:
        return F.lit(None)
    if name == "path":
        column = F.substring_index(column, "?", 1)
    return scrubbed(column) if name in FREE_TEXTS else column


def _first_text(log_format: LogFormat, column: str) -> Column:
    """What fills a column: the first of its sources that holds something, in the first's unit."""
    texts = [F.col(_t(at)) for at in log_format.sources[column]]
    return F.coalesce(*texts) if len(texts) > 1 else texts[0]


def _read(log_format: LogFormat, column: str) -> Column:
    """The value of a column; sources that differ in unit or form are read each for itself."""
    positions = log_format.sources[column]
    values = [log_format.values[at] for at in positions]
    if len({(it.kind, it.multiply, it.divide, it.time_format) for it in values}) == 1:
        return read_value(values[0], F.col(_f(column)))
    each = zip(values, positions, strict=True)
    return F.coalesce(*(read_value(value, F.col(_t(at))) for value, at in each))


def _constants(source: LogSource) -> dict[str, Column]:
    """What the user said of all lines; what a line says itself comes first."""
    said = {
        "sidecar_id": source.source_id,
        "mesh": source.mesh,
        "client": source.client,
        "virtual_node": source.virtual_node,
        "environment": source.environment,
    }
    return {name: F.lit(text) for name, text in said.items() if text is not None}


def _made(known: Mapping[str, Column]) -> dict[str, Column]:
    """Columns that are made from others."""
    nothing = F.lit(None).cast("STRING")
    path, method = known.get("path", nothing), known.get("method", nothing)
    durations = [known["total_us"]] if "total_us" in known else []
    if "duration_ms" in known:
        durations.append(known["duration_ms"] * 1000)
    made = {
        "pattern": pattern_of(method, scrubbed(F.substring_index(path, "?", 1))),
        "duration_us": F.coalesce(*durations, F.lit(0)),
    }
    if START_TIME.column in known:
        made["event_date"] = known[START_TIME.column].cast("DATE")
    return made


def _record(known: Mapping[str, Column]) -> Column:
    """What a line tells of: by its type where it has one, else by whether there was a request."""
    requested = [known[name].isNotNull() for name in REQUEST_COLUMNS if name in known]
    if "code" in known:
        requested.append(F.coalesce(known["code"], F.lit(0)) != 0)
    is_call = reduce(Column.__or__, requested, F.lit(False))  # noqa: FBT003
    by_request = F.when(is_call, F.lit("call")).otherwise(F.lit("connection"))
    if "type" not in known:
        return by_request
    told = F.create_map(*(F.lit(text) for pair in RECORDS.items() for text in pair))
    return F.coalesce(F.try_element_at(told, known["type"]), by_request)


def _observer(known: Mapping[str, Column]) -> Column:
    """From which side a line is probably seen, as ``log_line.infer_observer`` has it."""
    nothing = F.lit(None).cast("STRING")
    cluster = F.coalesce(known.get("upstream_cluster", nothing), F.lit(""))
    host = F.coalesce(known.get("upstream_host", nothing), F.lit(""))
    return (
        F.when(cluster.rlike(INGRESS_CLUSTER), F.lit("ingress"))
        .when(cluster.rlike(EGRESS_CLUSTER), F.lit("egress"))
        .when(host.rlike(LOOPBACK), F.lit("ingress"))
        .otherwise(F.lit("egress"))
    )


# --- what has no column ---------------------------------------------------------------------------


def _more(log_format: LogFormat, known: Mapping[str, Column]) -> Column:
    """What fills no column of its record, by name, as text; null where there is nothing."""
    is_call = F.col(RECORD) != "connection"
    entries: dict[str, Column] = {}
    for name, positions in log_format.names.items():
        texts = [F.col(_t(at)) for at in positions]
        first = F.coalesce(*texts) if len(texts) > 1 else texts[0]
        entries[name] = _kept(name, first)
        for at in positions[1:]:
            entries |= _beside(log_format, at, first)
    for column, positions in log_format.sources.items():
        for at in positions[1:]:
            entries |= _beside(log_format, at, F.col(_f(column)))
    for column, value in known.items():
        if column in CONNECTION_ONLY:
            entries[column] = F.when(is_call, value.cast("STRING"))
        elif column in CALL_ONLY and column != "type":
            entries[column] = F.when(~is_call, _kept(column, value.cast("STRING")))
    if "path" in known:
        target = known["path"]
        names = F.regexp_replace(F.substring_index(target, "?", -1), QUERY_VALUE, "")
        entries[QUERY] = F.when(is_call & F.contains(target, F.lit("?")), names)
    return _as_map(entries, has_unknown=log_format.kind == "json")


def _beside(log_format: LogFormat, at: int, first: Column) -> dict[str, Column]:
    """What a value says that lost its place to another, under its own key or operator."""
    value, text = log_format.values[at], F.col(_t(at))
    name = ".".join(value.key) or value.operator
    return {name: _kept(name, F.when(text != first, text))}


def _kept(name: str, text: Column) -> Column:
    if is_secret_name(name):
        return F.when(text.isNotNull(), F.lit(REMOVED))
    return scrubbed_addresses(text) if name == FORWARDED_FOR else scrubbed(text)


def _as_map(entries: Mapping[str, Column], *, has_unknown: bool) -> Column:
    pairs = [
        F.struct(F.lit(name).alias("key"), text.alias("value")) for name, text in entries.items()
    ]
    held = F.filter(F.array(*pairs), lambda pair: pair["value"].isNotNull()) if pairs else None
    if has_unknown:
        said = F.filter(F.map_entries(UNKNOWN), lambda pair: present(pair["value"]).isNotNull())
        clean = F.transform(said, _scrub_pair)
        held = clean if held is None else F.concat(held, clean)
    if held is None:
        return F.lit(None)
    return F.when(F.size(held) > 0, F.map_from_entries(held))


def _scrub_pair(pair: Column) -> Column:
    key, value = pair["key"], pair["value"]
    clean = F.when(key.rlike(HIDDEN_NAME), F.lit(REMOVED)).otherwise(scrubbed(value))
    return F.struct(key.alias("key"), clean.alias("value"))


# --- what is wrong --------------------------------------------------------------------------------


def _reason(log_format: LogFormat) -> Column:
    """Why a line cannot be read, null where it can."""
    line = F.col(LINE)
    what = "not JSON, or with other keys than" if log_format.kind == "json" else "not of"
    reason = (
        F.when(line.rlike(r"^\s*$"), F.lit("an empty line"))
        .when(~F.is_valid_utf8(line), F.lit("not UTF-8"))
        .when(line.rlike(OWN_LOG), F.lit("a line of Envoy's own log"))
        .when(~F.col(FOUND), F.lit(f"{what} the format {log_format.name}"))
    )
    for column, positions in log_format.sources.items():
        kind = log_format.values[positions[0]].kind
        if kind in ("number", "time"):
            unread = F.col(_f(column)).isNotNull() & F.col(_v(column)).isNull()
            said = scrubbed(F.substring(_f(column), 1, SHOWN))
            reason = reason.when(unread, F.concat(F.lit(f"not a {kind}: {column} "), said))
    if log_format.is_open:
        others = (column for column in log_format.sources if column != START_TIME.column)
        filled = reduce(Column.__add__, (F.col(_v(it)).isNotNull().cast("INT") for it in others))
        reason = reason.when(filled < LEAST_KNOWN, F.lit("too few known keys"))
    if START_TIME.column not in log_format.sources:
        return reason.otherwise(F.lit("the format has no start time"))
    return reason.when(F.col(_v(START_TIME.column)).isNull(), F.lit("no start time"))


def known_columns(log_format: LogFormat) -> tuple[str, ...]:
    """The columns that lines of a format can tell: a null in any other is not known."""
    made = ("pattern", "duration_us") if "path" in log_format.columns else ("duration_us",)
    return (*log_format.columns, *made)
