"""The numbers of a path in words: what the boxes, titles and descriptions of the picture say.

Goes in: numbers and places of a ``FlowMap``. Comes out: short texts of bounded length. Pure.
"""

from meshml_dbx.flowmap.fit import clean
from meshml_dbx.flowmap.graph import Numbers, Place

LONGEST_NAME = 200
TENTH, LONG_MS = 0.1, 9_950

NAMELESS = {
    "client": "unknown client",
    "virtual_service": "unknown host",
    "route": "no route",
    "target": "no target",
}


def counted(count: int, thing: str, *, plural: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "retry", plural="retries"), counted(1200, "call")
    ('1 retry', '1,200 calls')
    """
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"


def seconds_text(seconds: float) -> str:
    """A wait as people say it.

    >>> seconds_text(8.31), seconds_text(0.042)
    ('8.3 s', '0.04 s')
    """
    return f"{seconds:,.1f} s" if seconds >= TENTH else f"{seconds:.2f} s"


def milliseconds_text(milliseconds: float) -> str:
    """A call's duration as people say it.

    >>> milliseconds_text(950.4), milliseconds_text(32_000)
    ('950 ms', '32.0 s')
    """
    if milliseconds >= LONG_MS:
        return seconds_text(milliseconds / 1000)
    return f"{milliseconds:.0f} ms"


def wait_text(numbers: Numbers) -> str:
    """How long the program waited, and in how many calls.

    >>> wait_text(Numbers(calls=112, wait_s=8.3)), wait_text(Numbers(in_flight=1))
    ('8.3 s in 112 calls', '1 call in flight')
    """
    if not numbers.calls and numbers.in_flight:
        return f"{counted(numbers.in_flight, 'call')} in flight"
    calls = counted(numbers.calls, "call")
    return f"{seconds_text(numbers.wait_s)} in {calls}" if numbers.wait_s else calls


def trouble_parts(numbers: Numbers) -> list[str]:
    """What else is worth saying: how slow the slow ones were, and what went wrong."""
    parts = []
    if numbers.p95_ms is not None:
        parts.append(f"p95 {milliseconds_text(numbers.p95_ms)}")
    if numbers.calls and numbers.in_flight:
        parts.append(f"{numbers.in_flight:,} in flight")
    if numbers.errors:
        parts.append(counted(numbers.errors, "error"))
    if numbers.retries:
        parts.append(counted(numbers.retries, "retry", plural="retries"))
    return parts


def story_of(name: str, numbers: Numbers) -> str:
    """A name and all its numbers in one line."""
    return f"{name}: {', '.join([wait_text(numbers), *trouble_parts(numbers)])}"


def name_of(place: Place) -> str:
    """The place's name, or what its absence means."""
    return clean(place.name)[:LONGEST_NAME] or NAMELESS[place.column]


def left_out_text(count: int) -> str:
    """What is said of paths that are not drawn."""
    return f"and {counted(count, 'path')} with less wait, not drawn" if count else ""
