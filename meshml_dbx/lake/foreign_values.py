"""The raw values of a foreign log's lines, found by Spark's own expressions.

Goes in: a format and the column of lines. Comes out: one text per value of the format, and whether
they could be found. A text line is split where that is enough and shown to be: put together again,
the fields must give the line to the letter. Else one regular expression finds all values at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import repeat

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.traffic.log_format import LogFormat, SplitField

LINE = "value"
RAW = "raw"
CORRUPT = "_corrupt"
BORDER = "\ufdd0"
"""Between values that the regular expression found: a character that no text has, by Unicode."""
MAP = "MAP<STRING, STRING>"
_NO_ESCAPE = "\u0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Lines with what was found in them.

    ``texts`` are the values in the format's order, ``found`` says whether they are all there, and
    ``unknown`` is a map of what the format does not name, None where there can be no such thing.
    """

    lines: DataFrame
    texts: tuple[Column, ...]
    found: Column
    unknown: Column | None = None


def split_lines(lines: DataFrame, log_format: LogFormat) -> Found:
    """Values of lines that are fields with one blank between; ``found`` where nothing is amiss."""
    fields = log_format.split or ()
    schema = ", ".join(f"f{at} STRING" for at in range(len(fields)))
    options = {
        "sep": " ",
        "quote": '"',
        "escape": _NO_ESCAPE,
        "emptyValue": "",
        "columnNameOfCorruptRecord": CORRUPT,
    }
    parsed = F.from_csv(LINE, f"{schema}, {CORRUPT} STRING", options)
    raw = lines.withColumn(RAW, parsed)
    texts: dict[int, Column] = {}
    fits = _rebuilt(fields) == F.col(LINE)
    for at, field in enumerate(fields):
        text = _field(at)
        if field.before or field.after:
            fits &= text.startswith(field.before) & text.endswith(field.after)
            cut = F.length(text) - len(field.before) - len(field.after)
            text = F.substring(text, F.lit(len(field.before) + 1), cut)
        if len(field.values) == 1:
            texts[field.values[0]] = text
            continue
        parts = F.split(text, " ")
        fits &= F.size(parts) == len(field.values)
        texts |= {value: F.get(parts, F.lit(index)) for index, value in enumerate(field.values)}
    # Put together again they are the line; what each may hold is the regular expression's to say.
    fits &= F.col(LINE).rlike(log_format.pattern)
    found = _sure(F.col(f"{RAW}.{CORRUPT}").isNull() & fits)
    return Found(lines=raw, texts=tuple(texts[at] for at in sorted(texts)), found=found)


def _sure(found: Column) -> Column:
    """Whether it holds; not where that is not known."""
    return F.coalesce(found, F.lit(False))  # noqa: FBT003


def _field(at: int) -> Column:
    return F.col(f"{RAW}.f{at}")


def _rebuilt(fields: Sequence[SplitField]) -> Column:
    """The line as these fields would write it."""
    quoted = (
        F.concat(F.lit('"'), _field(at), F.lit('"')) if field.is_quoted else _field(at)
        for at, field in enumerate(fields)
    )
    return F.concat(*_with_blanks(quoted))


def _with_blanks(columns: Iterable[Column]) -> list[Column]:
    woven = [column for pair in zip(repeat(F.lit(" ")), columns, strict=False) for column in pair]
    return woven[1:]


def match_lines(lines: DataFrame, log_format: LogFormat) -> Found:
    """Values of lines that the format's regular expression reads; slower, and exact."""
    count = len(log_format.values)
    groups = BORDER.join(f"${at}" for at in range(1, count + 1))
    # A border in front tells a line that was read from one that was left as it is.
    marked = F.regexp_replace(LINE, log_format.pattern, f"{BORDER}{groups}")
    raw = lines.withColumn(RAW, F.split(marked, BORDER))
    texts = tuple(F.get(RAW, F.lit(at + 1)) for at in range(count))
    found = (F.size(RAW) == count + 1) & (F.get(RAW, F.lit(0)) == "")
    return Found(lines=raw, texts=texts, found=found & ~F.contains(LINE, F.lit(BORDER)))


def decode_lines(lines: DataFrame, log_format: LogFormat) -> Found:
    """Values of JSON lines by their keys, and what else is in them as a map."""
    # As a list of one: of two objects on a line, or of something behind the first, the reader
    # would take the first and drop the rest in silence.
    listed = F.from_json(F.concat(F.lit("["), LINE, F.lit("]")), f"ARRAY<{MAP}>")
    raw = lines.withColumn(RAW, F.when(F.size(listed) == 1, F.get(listed, F.lit(0))))
    keys = [value.key for value in log_format.values]
    known = F.array(*(F.lit(key) for key in sorted({key[0] for key in keys})))
    unknown = F.map_filter(RAW, lambda key, _: ~F.array_contains(known, key))
    found = F.col(RAW).isNotNull() & _has_keys(log_format, unknown)
    return Found(
        lines=raw,
        texts=tuple(_at(F.col(RAW), key) for key in keys),
        found=_sure(found),
        unknown=unknown,
    )


def _at(held: Column, key: tuple[str, ...]) -> Column:
    for part in key[:-1]:
        held = F.from_json(F.try_element_at(held, F.lit(part)), MAP)
    return F.try_element_at(held, F.lit(key[-1]))


def _has_keys(log_format: LogFormat, unknown: Column) -> Column:
    """A line that lacks keys and has others is of another format; see ``traffic.log_line``."""
    held = F.col(RAW)
    needed = [F.map_contains_key(held, F.lit(key)) for key in log_format.needs]
    if log_format.is_open:
        return reduce(Column.__and__, needed, F.size(held) > 0)
    wanted = {value.key[0] for value in log_format.values}
    present = F.size(held) - F.size(unknown)
    fits = (present >= len(wanted)) | ((F.size(unknown) == 0) & (F.size(held) > 0))
    return reduce(Column.__and__, needed, fits)
