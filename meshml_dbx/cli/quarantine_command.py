"""``meshml quarantine``: lines that no table takes, by reason, and read again after a fix."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table

if TYPE_CHECKING:
    from meshml_dbx.session import Session

HEADINGS = ("reason", "lines", "files", "sources", "first seen", "example")
SHOWN_SOURCES, SHOWN_LINE = 3, 80


@click.command(short_help="Show the lines that no table takes, and read them again.")
@options.options(options.state, options.logs, options.lake, options.as_json, options.quiet)
@click.option("--source", metavar="NAME", help="Only lines of this source or sidecar.")
@click.option("--reason", metavar="TEXT", help="Only lines whose reason begins so.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Of reasons.")
@click.option("--replay", is_flag=True, help="Read the lines again, from the log folder.")
@click.option(
    "--format", "log_format", metavar="FORMAT", help="With --replay and --source: a format of it."
)
def quarantine(
    *,
    state: Path | None,
    logs: Path | None,
    lake: str | None,
    as_json: bool,
    quiet: bool,
    source: str | None,
    reason: str | None,
    limit: int,
    replay: bool,
    log_format: str | None,
) -> None:
    """Show the lines that no table takes, by reason, with an example of each.

    Secrets are taken out of what is shown, as they are out of the table. The bytes stay in the log
    folder's closed files: with --replay they are read again, by what meshml and the source's
    formats know now. What can be read becomes rows, once, and is marked as replayed.

    \b
    Examples:
      meshml quarantine
      meshml quarantine --source edge --reason not --json
      meshml quarantine --replay
      meshml quarantine --replay --source edge --format istio-2020
    """
    if log_format and not (replay and source):
        raise click.UsageError("--format needs --replay, and --source to say whose format it is")
    session = options.open_session(state=state, logs=logs, lake=lake, quiet=quiet)
    if replay:
        _replay(session, source, reason, log_format, as_json=as_json)
    else:
        _show(session, source, reason, limit, as_json=as_json)


def _show(
    session: "Session", source: str | None, reason: str | None, limit: int, *, as_json: bool
) -> None:
    found = session.quarantine(source=source, reason=reason, limit=limit)
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        (
            one.reason,
            str(one.lines),
            str(one.files),
            _some(one.sources),
            (one.first_seen or "-")[:19],
            str(one.example["line"])[:SHOWN_LINE],
        )
        for one in found.reasons
    ]
    if rows:
        print_table(HEADINGS, rows)
    click.echo(f"in quarantine: lines {found.lines} · replayed {found.replayed}")
    if found.left_out:
        click.echo(f"not shown: {found.left_out} more reasons, see --limit")
    if found.lines:
        click.echo(f"next: {session.next_command('quarantine', '--replay')}")


def _replay(
    session: "Session",
    source: str | None,
    reason: str | None,
    log_format: str | None,
    *,
    as_json: bool,
) -> None:
    told = session.replay(source=source, reason=reason, log_format=log_format)
    if as_json:
        print_json(asdict(told))
        return
    counts = {"lines": told.lines, **told.counts, "still in quarantine": told.left}
    click.echo(f"replayed: {' · '.join(f'{name} {count}' for name, count in counts.items())}")
    for file, lines in told.gone.items():
        click.echo(f"gone: {file}, with {lines} lines that cannot be read again")


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN_SOURCES
    return ", ".join(names[:SHOWN_SOURCES]) + (f" +{more}" if more > 0 else "")
