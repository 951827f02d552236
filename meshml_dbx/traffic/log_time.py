"""The moments of foreign access logs: Envoy's ``START_TIME`` in whatever form it was asked for.

Goes in: a text, and the strftime form of the format, ``""`` for Envoy's own ISO 8601. Comes out:
UTC microseconds since 1970. A form that names no whole moment, or that has directives beyond
``DIRECTIVES``, is not readable; its text is then kept as it is.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_ZONE = "[+-][0-9]{2}:?[0-9]{2}"
ISO_FORM = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\.[0-9]{1,9})?(?:Z|" + _ZONE + ")"
)
"""Whole seconds, milliseconds, microseconds or nanoseconds; UTC or with an offset."""

DIRECTIVES: Mapping[str, tuple[str, str]] = {
    "Y": ("[0-9]{4}", "2026"),
    "y": ("[0-9]{2}", "26"),
    "m": ("[0-9]{2}", "03"),
    "b": ("[A-Za-z]{3}", "Mar"),
    "B": ("[A-Za-z]{3,9}", "March"),
    "d": ("[0-9]{2}", "04"),
    "e": ("[ 0-9][0-9]", " 4"),
    "H": ("[0-9]{2}", "09"),
    "I": ("[0-9]{2}", "09"),
    "p": ("[AP]M", "AM"),
    "M": ("[0-9]{2}", "15"),
    "S": ("[0-9]{2}", "02"),
    "a": ("[A-Za-z]{3}", "Wed"),
    "A": ("[A-Za-z]{6,9}", "Wednesday"),
    "z": (_ZONE, "+0000"),
    "Z": ("(?:UTC|GMT|Z)", "UTC"),
    "s": ("-?[0-9]{1,12}", "1772615702"),
    "f": ("[0-9]{1,9}", "114000000"),
    **{f"{digits}f": (f"[0-9]{{{digits}}}", "114000000"[:digits]) for digits in range(1, 10)},
}
"""strftime directive → what it looks like, and an example. ``f`` is Envoy's: parts of a second."""

_SHORT_FORMS = {"T": "%H:%M:%S", "F": "%Y-%m-%d", "R": "%H:%M", "D": "%m/%d/%y"}
_PIECE = re.compile(r"%([1-9]f|[A-Za-z%])|([^%]+)|(.)", re.DOTALL)
_META = re.compile(r"[\\.^$|?*+()\[\]{}]")


def escaped(text: str) -> str:
    """The text as a regular expression that Python and Java read alike."""
    return _META.sub(lambda found: "\\" + found[0], text)


def _pieces(form: str) -> Iterator[tuple[str, str]]:
    """Directives and literal texts of a strftime form; what is unknown comes as directive ``?``."""
    for found in _PIECE.finditer(form):
        directive, literal, stray = found.groups()
        if directive in _SHORT_FORMS:
            yield from _pieces(_SHORT_FORMS[directive])
        elif directive == "%":
            yield "", "%"
        elif directive:
            yield (directive if directive in DIRECTIVES else "?"), ""
        else:
            yield ("", literal) if literal else ("?", stray)


def time_form(form: str) -> str | None:
    """What a text of this strftime form looks like, as a regular expression without groups.

    None where the form is not readable: it names no whole moment, or has unknown directives.

    >>> time_form("%s.%3f")
    '-?[0-9]{1,12}\\\\.[0-9]{3}'
    >>> time_form("%H:%M") is None
    True
    """
    if not form:
        return ISO_FORM
    pieces = list(_pieces(form))
    if not _is_moment([directive[-1] for directive, _ in pieces if directive]):
        return None
    return "".join(DIRECTIVES[code][0] if code else escaped(text) for code, text in pieces)


def example_time(form: str) -> str:
    """A moment in a readable form."""
    if not form:
        return "2026-03-04T09:15:02.114Z"
    return "".join(DIRECTIVES[code][1] if code else text for code, text in _pieces(form))


def _is_moment(directives: list[str]) -> bool:
    """Whether these name one moment, and none of them twice."""
    given = set(directives)
    if "?" in given or len(given) < len(directives):
        return False
    date = given & set("Yy") and given & set("mbB") and given & set("de")
    clock = "M" in given and ("H" in given or {"I", "p"} <= given)
    return "s" in given or bool(date and clock)


def has_zone(form: str) -> bool:
    """Whether a local time of this form says its distance from UTC."""
    return not form or any(code in ("z", "Z", "s") for code, _ in _pieces(form))


@lru_cache(maxsize=64)
def _reader(form: str) -> re.Pattern[str]:
    return re.compile(
        "".join(
            f"(?P<{code[-1]}>{DIRECTIVES[code][0]})" if code else escaped(text)
            for code, text in _pieces(form)
        )
    )


_ISO = re.compile(
    r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)T(?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d)"
    rf"(?:\.(?P<f>\d{{1,9}}))?(?P<z>Z|{_ZONE})",
    re.ASCII,
)


def read_moment(text: str, form: str) -> int:
    """UTC microseconds since 1970 of a text in a readable form; what names no zone is UTC.

    Raises:
        ValueError: the text is not of that form, or there is no such moment.

    >>> read_moment("2026-03-04T10:15:02+01:00", "") == read_moment("1772615702", "%s")
    True
    """
    found = (_reader(form) if form else _ISO).fullmatch(text)
    if found is None:
        raise ValueError(f"time data {text!r:.40} does not match format {form!r:.40}")
    part = {name: value for name, value in found.groupdict().items() if value is not None}
    # What is finer than a microsecond is cut off, as Envoy itself does for shorter forms.
    micros = int(part.get("f", "0").ljust(9, "0")) // 1000
    if "s" in part:
        return int(part["s"]) * 1_000_000 + micros
    moment = datetime(
        _year(part), _month(part), int(part.get("d") or part["e"]), _hour(part), int(part["M"]),
        int(part.get("S", "0")), tzinfo=_zone(part.get("z", "Z")),
    )  # fmt: skip
    return (moment - _EPOCH) // _MICROSECOND + micros


def _year(part: Mapping[str, str]) -> int:
    if "Y" in part:
        return int(part["Y"])
    short = int(part["y"])
    return short + (1900 if short >= 69 else 2000)  # noqa: PLR2004  # as POSIX has it


def _month(part: Mapping[str, str]) -> int:
    if "m" in part:
        return int(part["m"])
    return _MONTHS.index((part.get("b") or part["B"])[:3].lower()) + 1


def _hour(part: Mapping[str, str]) -> int:
    if "H" in part:
        return int(part["H"])
    hour = int(part["I"])
    if not 1 <= hour <= 12:  # noqa: PLR2004  # the hours of a clock
        raise ValueError(f"no hour of twelve: {hour}")
    return hour % 12 + (12 if part["p"] == "PM" else 0)


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)
