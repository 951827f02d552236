"""Times and shares as people read them."""

_SECOND_US = 1_000_000
_LONG_MS = 9_950


def seconds(micros: float) -> str:
    """A span in seconds.

    >>> seconds(8_312_000), seconds(34_000), seconds(127_000_000)
    ('8.3 s', '0.03 s', '127 s')
    """
    value = micros / _SECOND_US
    if value >= 99.95:  # noqa: PLR2004  # from here on a tenth of a second says nothing
        return f"{value:.0f} s"
    return f"{value:.1f} s" if value >= 0.1 or value == 0 else f"{value:.2f} s"  # noqa: PLR2004  # below it, the second digit is the first that counts


def milliseconds(value_ms: float | None) -> str:
    """A call's duration: milliseconds, seconds where they grow many, a dash where it is unknown.

    >>> milliseconds(950.4), milliseconds(1.25), milliseconds(32_000), milliseconds(None)
    ('950 ms', '1.2 ms', '32.0 s', '-')
    """
    if value_ms is None:
        return "-"
    if value_ms >= _LONG_MS:
        return seconds(value_ms * 1000)
    return f"{value_ms:.1f} ms" if value_ms < 10 else f"{value_ms:.0f} ms"  # noqa: PLR2004  # as above


def percent(share: float) -> str:
    """A share as a percentage.

    >>> percent(0.716)
    '72 %'
    """
    return f"{100 * share:.0f} %"


def counted(count: int, thing: str, plural: str = "") -> str:
    """A number of things.

    >>> counted(1, "call"), counted(112, "call"), counted(0, "retry", "retries")
    ('1 call', '112 calls', '0 retries')
    """
    return f"{count} {thing if count == 1 else plural or thing + 's'}"


def short_id(run_id: str) -> str:
    """As much of a run's id as the answer shows; a unique prefix is enough to ask again.

    >>> short_id("4f1c0b9e2a")
    '4f1c0b'
    """
    return run_id[:6]
