"""What a raw text of a foreign log means: Spark's own reading of each kind of value.

Goes in: a text column and the value of a format that it holds. Comes out: what is stored, null
where there is nothing, and whether the text could be read. The rules are those of
``traffic.log_line``, which a test compares with these line by line.
"""

import re
from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.errors import LogFormatError
from meshml_dbx.traffic.access_log import LARGEST_NUMBER
from meshml_dbx.traffic.flags import FLAGS
from meshml_dbx.traffic.log_operators import LogValue
from meshml_dbx.traffic.log_time import ISO_FORM, time_form
from meshml_dbx.traffic.scrub import ADDRESS_RULE, GUARD, RULES

_PLAIN_FLAG = "^[A-Z]{2,5}$"
_NUMBER = r"^[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,4})?$"
_ISO_LENGTHS = (20, 24, 27)
_EPOCH_FORM = re.compile(r"%s(?:\.?%([1-9]?)f)?")
_JAVA = {
    "Y": "yyyy", "y": "yy", "m": "MM", "b": "MMM", "B": "MMMM", "d": "dd", "H": "HH", "I": "hh",
    "p": "a", "M": "mm", "S": "ss", "z": "[XXX][XX]", "F": "yyyy-MM-dd", "T": "HH:mm:ss",
    "R": "HH:mm", "D": "MM/dd/yy",
}  # fmt: skip


def present(raw: Column) -> Column:
    """The text, null for what a proxy writes where there is none."""
    return F.when(~raw.isin("-", ""), raw)


def read_value(value: LogValue, raw: Column) -> Column:
    """The value of a format as its column stores it; null where there is none, or no such thing."""
    return _READERS[value.kind](value, raw)


def _text(_: LogValue, raw: Column) -> Column:
    return raw


def _number(value: LogValue, raw: Column) -> Column:
    """A whole number in the column's unit, however it is written; half of one is none."""
    by_double = raw.try_cast("DOUBLE")
    is_whole = raw.rlike(_NUMBER) & (by_double == F.floor(by_double))
    patient = F.when(is_whole, by_double.try_cast("BIGINT"))
    number = F.coalesce(F.when(~raw.rlike(r"\s"), raw.try_cast("BIGINT")), patient)
    if (value.multiply, value.divide) == (1, 1):
        return number
    limit = LARGEST_NUMBER // value.multiply
    inside = F.when(number.between(-limit, limit), number)
    return F.floor(inside * value.multiply / value.divide).cast("BIGINT")


def _flags(_: LogValue, raw: Column) -> Column:
    """Flags are a set: sorted, each once, by their short names."""
    short = F.create_map(*(F.lit(text) for s, f in FLAGS.items() for text in (f.name, s)))
    each = F.filter(F.transform(F.split(raw, ","), F.trim), lambda flag: flag != "")
    named = F.transform(each, lambda flag: F.coalesce(F.try_element_at(short, flag), flag))
    joined = F.array_join(F.array_sort(F.array_distinct(named)), ",")
    return F.when(raw.rlike(_PLAIN_FLAG), raw).otherwise(F.nullif(joined, F.lit("")))


def _address(_: LogValue, raw: Column) -> Column:
    """Old proxies wrote ``tcp://`` before it."""
    return F.when(raw.startswith("tcp://"), F.substring(raw, 7, 1 << 30)).otherwise(raw)


def _time(value: LogValue, raw: Column) -> Column:
    return read_moment(raw, value.time_format)


_READERS: dict[str, Callable[[LogValue, Column], Column]] = {
    "text": _text,
    "number": _number,
    "time": _time,
    "flags": _flags,
    "address": _address,
}


# --- moments --------------------------------------------------------------------------------------


def read_moment(raw: Column, form: str) -> Column:
    """The moment of a text in a strftime form, null where it is not of that form.

    Raises:
        LogFormatError: Spark has no way to read this form.
    """
    if not form:
        usual = F.length(raw).isin(*_ISO_LENGTHS) & raw.endswith("Z")
        is_iso = (usual & (F.substring(raw, 11, 1) == "T")) | raw.rlike(f"^(?:{ISO_FORM})$")
        return F.when(is_iso, raw.try_cast("TIMESTAMP"))
    has_form = raw.rlike(f"^(?:{time_form(form)})$")
    epoch = _EPOCH_FORM.fullmatch(form)
    if epoch:
        return F.when(has_form, _since_1970(raw, "f" in form, "." in form))
    return F.when(has_form, F.try_to_timestamp(raw, F.lit(_java_pattern(form))))


def _since_1970(raw: Column, has_parts: bool, has_point: bool) -> Column:  # noqa: FBT001
    """Seconds, with parts of a second after a point or right behind them."""
    if not has_parts:
        return F.timestamp_micros(raw.try_cast("BIGINT") * 1_000_000)
    seconds = F.split_part(raw, F.lit("."), F.lit(1)) if has_point else F.substring(raw, 1, 10)
    parts = F.split_part(raw, F.lit("."), F.lit(2)) if has_point else F.substring(raw, 11, 9)
    micros = F.substring(F.rpad(parts, 6, "0"), 1, 6).try_cast("BIGINT")
    return F.timestamp_micros(seconds.try_cast("BIGINT") * 1_000_000 + micros)


def _java_pattern(form: str) -> str:
    """The pattern of Java's formatter for a strftime form."""
    made = ""
    for directive, literal in re.findall(r"%([1-9]?[A-Za-z%])|([^%]+)", form):
        if literal or directive == "%":
            made += f"'{(literal or '%').replace(chr(39), chr(39) * 2)}'"
        elif directive.endswith("f"):
            made += "S" * int(directive[:-1] or 9)
        elif directive in _JAVA:
            made += _JAVA[directive]
        else:
            raise LogFormatError(
                f"lines with times of the form {form!r} cannot be read into tables: %{directive}",
                advice="write them as %START_TIME%, or as %START_TIME(%s.%6f)%",
            )
    return made


# --- what never reaches a table -------------------------------------------------------------------


def scrubbed(text: Column) -> Column:
    """The text without secrets, by ``traffic.scrub``; most texts are told at a glance."""
    cleaned = reduce(
        lambda column, rule: F.regexp_replace(column, rule.pattern, rule.replacement), RULES, text
    )
    return F.when(text.rlike(GUARD), cleaned).otherwise(text)


def scrubbed_addresses(text: Column) -> Column:
    """Addresses, public ones cut to their network."""
    return F.regexp_replace(text, ADDRESS_RULE.pattern, ADDRESS_RULE.replacement)
