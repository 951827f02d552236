"""Moments as people type them: so long ago, or a date."""

import re
import time
from datetime import UTC, datetime

import click

SECONDS_OF = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d{1,6})([mhdw])")


def read_since(_context: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The seconds since 1970 of 30m, 6h, 2d or 1w ago, or of a date, with or without time."""
    return None if value is None else moment_of(value, now=time.time())


def moment_of(text: str, *, now: float) -> float:
    """The moment that a text means; a time without a zone is UTC.

    >>> moment_of("2d", now=200_000.0)
    27200.0
    >>> moment_of("1970-01-02T00:00", now=200_000.0)
    86400.0
    """
    if found := _SPAN.fullmatch(text):
        moment = now - int(found[1]) * SECONDS_OF[found[2]]
    else:
        try:
            date = datetime.fromisoformat(text)
        except ValueError as error:
            raise click.BadParameter(
                f"{text!r} is no span such as 30m, 6h, 2d, and no date such as 2026-03-04T09:15"
            ) from error
        moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if not 0 < moment < now:
        raise click.BadParameter(f"{text!r} is not in the past")
    return moment
