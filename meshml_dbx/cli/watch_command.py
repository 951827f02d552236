"""``meshml watch``: ingest that goes on, and what is in flight meanwhile."""

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import escape

if TYPE_CHECKING:
    from meshml_dbx.traffic.call import Call
    from meshml_dbx.watching import WatchView

SHOWN = 15
"""Calls in flight that fit on a screen; of the others the number is told."""
HEADINGS = ("since", "client", "service", "route", "target", "run")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = re.compile(r"(\d+)([smh])")


def read_seconds(_context: click.Context, _param: click.Parameter, value: str | None) -> float:
    """The seconds of a span such as 30s, 5m or 1h; endless without one."""
    if value is None:
        return float("inf")
    found = _SPAN.fullmatch(value)
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value!r} is no span such as 30s, 5m or 1h")
    return int(found[1]) * _UNITS[found[2]]


@click.command(short_help="Ingest continuously and show the calls in flight.")
@options.options(
    options.state, options.logs, options.lake, options.tracking, options.as_json, options.quiet
)
@click.option("--for", "for_s", metavar="30s", callback=read_seconds, help="Stop after so long.")
@click.option(
    "--settle",
    "settle_s",
    metavar="30s",
    default="30s",
    callback=read_seconds,
    help="How long rows may wait to be joined with runs.",
)
def watch(
    *,
    state: Path | None,
    logs: Path | None,
    lake: str | None,
    tracking: str | None,
    as_json: bool,
    quiet: bool,
    for_s: float,
    settle_s: float,
) -> None:
    """Bring log lines into Delta tables as they are written, and show the calls in flight.

    Rows are in `calls` within seconds after a call ends. What is made of them, joins with runs,
    edges, waits and ledgers, follows every --settle seconds and when the watch ends (Ctrl-C). With
    --json, or where the output is no terminal, each second is a line.

    \b
    Examples:
      meshml watch
      meshml watch --for 10m --settle 1m
      meshml watch --json
    """
    is_screen = sys.stdout.isatty() and not as_json
    session = options.open_session(
        state=state, logs=logs, lake=lake, tracking=tracking, quiet=quiet or is_screen
    )
    until = time.monotonic() + for_s
    with ExitStack() as stack:
        show = _json_line if as_json else _screen(stack) if is_screen else _text_line
        session.watch(lambda view: _shown(show, view, until), settle_s=settle_s)


def _shown(show: "Callable[[WatchView], None]", view: "WatchView", until: float) -> bool:
    show(view)
    return time.monotonic() < until


def _age_s(view: "WatchView", call: "Call") -> float:
    return max(view.at - call.start_time, 0) / 1e6


def _summary(view: "WatchView") -> str:
    counts = view.counts
    parts = [
        f"in flight {len(view.in_flight)}",
        f"calls {counts.get('ended', 0)}",
        f"files {counts.get('files', 0)}",
    ]
    if view.in_flight:
        parts.insert(1, f"oldest {_age_s(view, view.in_flight[0]):.1f} s")
    if counts.get("quarantined"):
        parts.append(f"quarantined {counts['quarantined']}")
    if view.lag_s is not None:
        parts.append(f"95 % were rows within {view.lag_s:.1f} s")
    return " · ".join((*parts, view.doing))


def _clock(view: "WatchView") -> str:
    return datetime.fromtimestamp(view.at / 1e6, UTC).strftime("%H:%M:%S")


def _text_line(view: "WatchView") -> None:
    click.echo(f"{_clock(view)}  {_summary(view)}")


def _json_line(view: "WatchView") -> None:
    value = {
        "time": datetime.fromtimestamp(view.at / 1e6, UTC).isoformat(),
        "doing": view.doing,
        "counts": dict(view.counts),
        "lag_p95_s": view.lag_s,
        "in_flight": [_call(view, call) for call in view.in_flight],
    }
    click.echo(json.dumps(value, ensure_ascii=False))


def _call(view: "WatchView", call: "Call") -> dict[str, Any]:
    return {
        "age_s": round(_age_s(view, call), 3),
        "client": call.client,
        "service": call.virtual_service or call.authority,
        "route": call.route,
        "target": call.target,
        "run_id": call.run_id,
        "request_id": call.request_id,
    }


def _screen(stack: ExitStack) -> "Callable[[WatchView], None]":
    from rich import box
    from rich.live import Live
    from rich.table import Table

    live = stack.enter_context(Live(auto_refresh=False))

    def show(view: "WatchView") -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=_summary(view))
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")
        for call in view.in_flight[:SHOWN]:
            told = _call(view, call)
            cells = (told[name] for name in ("client", "service", "route", "target", "run_id"))
            table.add_row(f"{told['age_s']:.1f} s", *(escape(str(it or "-")) for it in cells))
        if len(view.in_flight) > SHOWN:
            table.add_row(f"and {len(view.in_flight) - SHOWN} more")
        live.update(table, refresh=True)

    return show
