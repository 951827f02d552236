"""``meshml prune``: old rows out of the lake."""

import re
from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table

DAYS_OF = {"d": 1, "w": 7}
_SPAN = re.compile(r"(\d+)([dw])")


def read_days(_context: click.Context, _param: click.Parameter, value: str) -> float:
    """The days of a span such as 90d or 12w."""
    found = _SPAN.fullmatch(value)
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value!r} is no span such as 90d or 12w")
    return float(int(found[1]) * DAYS_OF[found[2]])


@click.command(short_help="Remove old rows from the lake.")
@options.options(options.state, options.lake, options.as_json, options.quiet)
@click.option(
    "--keep", required=True, metavar="90d", callback=read_days, help="How long rows are kept."
)
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
def prune(
    *,
    state: Path | None,
    lake: str | None,
    as_json: bool,
    quiet: bool,
    keep: float,
    dry_run: bool,
) -> None:
    """Remove rows older than --keep from the lake's tables, and say how many of each.

    Rows of runs that still last stay, whatever their age. Runs, mesh files and what ingest
    remembers stay, too. Delta keeps the files for a week, for whoever reads an older version:
    VACUUM removes them then.

    \b
    Examples:
      meshml prune --keep 90d --dry-run
      meshml prune --keep 12w
    """
    session = options.open_session(state=state, lake=lake, quiet=quiet)
    found = session.prune(keep_days=keep, dry_run=dry_run)
    if as_json:
        print_json({"rows": dict(found.rows), "lasting": list(found.lasting), "dry_run": dry_run})
        return
    listed = [(table, str(count)) for table, count in found.rows.items() if count]
    if listed:
        print_table(("table", "would go" if dry_run else "removed"), listed)
    click.echo(f"{'rows that would go' if dry_run else 'removed rows'}: {found.total}")
    if found.lasting:
        click.echo(f"kept, since they still last: the rows of {len(found.lasting)} runs")
    if found.total and not dry_run:
        click.echo("next: after a week, VACUUM these tables in SQL")
