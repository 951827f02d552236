"""Which columns a log format knows, so that a null can be told: no, or not known.

Goes in: formats. Comes out: the view ``format_columns``: of formats that this package knows its
text is enough; a user's own are noted in the table ``formats`` when their logs come in.
"""

from collections.abc import Iterable

from pyspark.sql import SparkSession

from meshml_dbx.lake.foreign import COLUMNS, known_columns
from meshml_dbx.lake.tables import TABLES, TableNames, any_of
from meshml_dbx.lake.texts import text_literal
from meshml_dbx.traffic.known_formats import KNOWN
from meshml_dbx.traffic.log_format import LogFormat

MADE = ("observer", "sidecar_id", "format", "more", "line_key", "event_date")
"""What every foreign row has, whatever its format."""


def told_columns(log_format: LogFormat) -> tuple[str, ...]:
    """The columns of the tables that lines of a format can tell, in the tables' order."""
    known = {*known_columns(log_format), *MADE}
    return tuple(column for column in COLUMNS if column in known)


def remember_formats(
    spark: SparkSession, names: TableNames, formats: Iterable[LogFormat]
) -> tuple[str, ...]:
    """Note those of these formats that are a user's own and not noted yet; their names."""
    own = {it.name: it for it in formats if it.name not in {known.name for known in KNOWN}}
    if not own:
        return ()
    noted = spark.table(names.table("formats")).where(any_of("format", sorted(own)))
    had = {row["format"] for row in noted.select("format").collect()}
    rows = [(it.name, it.source, list(told_columns(it))) for it in own.values()]
    fresh = [row for row in rows if row[0] not in had]
    if fresh:
        schema = ", ".join(f"`{name}` {kind}" for name, kind in TABLES["formats"])
        frame = spark.createDataFrame(fresh, schema)
        frame.write.format("delta").mode("append").saveAsTable(names.table("formats"))
    return tuple(row[0] for row in fresh)


def _array(texts: Iterable[str]) -> str:
    return f"array({', '.join(text_literal(text) for text in texts)})"


_KNOWN = ", ".join(f"({text_literal(it.name)}, {_array(told_columns(it))})" for it in KNOWN)
FORMAT_COLUMNS = (
    "Whether lines of a format can tell a column: where known is false, a null in it means that "
    "nobody knows. Formats are those of calls.format; our own rows have none",
    f"""
    SELECT format, column, array_contains(columns, column) AS known
    FROM (SELECT format, columns FROM VALUES {_KNOWN} AS known(format, columns)
      UNION ALL SELECT DISTINCT format, columns FROM {{schema}}.formats)
    LATERAL VIEW explode({_array(COLUMNS)}) AS column
    """,  # noqa: S608  # made of this module's own words
)
