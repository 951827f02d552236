"""``meshml hops``: slow calls of a run, followed from service to service."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table


@click.command(short_help="Follow a run's slowest calls from service to service.")
@click.argument("run", required=False, default="last")
@options.options(
    options.state, options.logs, options.lake, options.tracking, options.as_json, options.quiet
)
@click.option("--live", is_flag=True, help="Read the log folder: needs no Spark, no ingest.")
@click.option(
    "--top", type=click.IntRange(min=1), default=3, show_default=True, help="How many calls."
)
@click.option("--call", "request_id", metavar="ID", help="Only calls with this request id.")
def hops(
    *,
    run: str,
    state: Path | None,
    logs: Path | None,
    lake: str | None,
    tracking: str | None,
    as_json: bool,
    quiet: bool,
    live: bool,
    top: int,
    request_id: str | None,
) -> None:
    """Follow the slowest calls of RUN past the first service, to where the time went.

    A call and what it led to stand as a tree: who called whom, how long it took, and how long it
    took itself, without what it waited for below. Between two hosts calls are linked by request id.
    What a service calls while it answers is linked by the request id or trace id that it forwards,
    else by time, which the table says; what fits several is not linked, and counted.

    \b
    Examples:
      meshml hops last
      meshml hops 4f1c0b --top 1 --json
      meshml hops last --call 9f0c2a1e-5f3b-4f0a-9a1e-0c2d1b7a6f55 --live
    """
    session = options.open_session(
        state=state, logs=logs, lake=lake, tracking=tracking, quiet=quiet
    )
    followed = session.hops(run, live=live, top=top, request_id=request_id)
    if as_json:
        print_json(followed.to_json())
        return
    if not followed.trails:
        click.echo(f"run {followed.run.run_id[:6]} has no finished call")
        return
    headings, trails = session.hop_rows(followed)
    for rows, notes in trails:
        print_table(headings, rows)
        for note in notes:
            click.echo(note)
