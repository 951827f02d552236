"""``meshml cost``: which service cost whose models how much waiting."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table

DAYS = 7


@click.command(short_help="Say which service cost whose models the most waiting.")
@options.options(options.state, options.lake, options.as_json, options.quiet)
@click.option(
    "--days",
    type=click.IntRange(min=1),
    default=DAYS,
    show_default=True,
    help="Runs that began in so many days, and today.",
)
@click.option(
    "--billing",
    metavar="TABLE|FOLDER",
    help="Records of what was used. [system.billing.usage]",
)
@click.option("--prices", metavar="TABLE|FOLDER", help="List prices. [system.billing.list_prices]")
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many rows."
)
def cost(
    *,
    state: Path | None,
    lake: str | None,
    as_json: bool,
    quiet: bool,
    days: int,
    billing: str | None,
    prices: str | None,
    top: int,
) -> None:
    """Say which service cost whose models the most waiting: seconds, and money where billed.

    Works the table `cost` out again from Databricks' billing tables, or from copies of them: every
    record summed, at the list price of its time, split over the runs of a job run or compute by
    how long they lasted. A run's waits have their share of that. Where there is no bill, the answer
    is in seconds, and says what lacks. Teams and models are the runs' MLflow tags. A FOLDER holds
    Delta or Parquet files, and has a slash in its name.

    \b
    Examples:
      meshml cost --lake main.mesh
      meshml cost --days 30 --json
      meshml cost --billing ./export/usage --prices ./export/list_prices
    """
    session = options.open_session(state=state, lake=lake, quiet=quiet)
    found = session.cost(days=days, billing=billing, prices=prices)
    if as_json:
        print_json(found.to_json())
        return
    print_table(
        ("team", "model", "service", "runs", "calls", "waited", "cost", "share"),
        (
            (
                row.team or "-",
                row.model or "-",
                row.service,
                str(row.runs),
                str(row.calls),
                f"{row.wait_s:.1f} s",
                "-" if row.wait_cost is None else f"{row.wait_cost:.2f} {row.currency}",
                "-" if row.share is None else f"{row.share:.1%}",
            )
            for row in found.rows[:top]
        ),
    )
    if len(found.rows) > top:
        click.echo(f"and {len(found.rows) - top} more rows: --top")
    if found.notice:
        click.echo(f"{found.notice}; shares are of the runs' time")
    click.echo(f"runs that began since {found.since}")
