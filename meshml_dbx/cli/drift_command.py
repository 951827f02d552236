"""``meshml drift``: the mesh file against what was seen."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table
from meshml_dbx.findings import Severity

WAYS_SHOWN = 30


@click.command(short_help="Compare the mesh file with the calls that were made.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.options(
    options.mesh, options.state, options.logs, options.lake, options.as_json, options.quiet
)
@click.option("--live", is_flag=True, help="Read the log folder: needs no Spark, no ingest.")
@click.option("--since", metavar="DAYS", type=click.FloatRange(min=0), help="Only these last days.")
@click.pass_context
def drift(
    context: click.Context,
    *,
    file: Path | None,
    mesh: Path | None,
    state: Path | None,
    logs: Path | None,
    lake: str | None,
    as_json: bool,
    quiet: bool,
    live: bool,
    since: float | None,
) -> None:
    """Compare the mesh file with the calls that were made: who strays from what is declared.

    Finds calls on no declared backend, backends and routes that nothing uses, targets whose part
    of the calls is further from their weight than chance explains, peers with another identity,
    and calls of other versions of the file. Exits 1 when something strays.

    \b
    Examples:
      meshml drift mesh.yml
      meshml drift --live --since 7
      meshml drift --json
    """
    session = options.open_session(
        mesh=file or mesh, state=state, logs=logs, lake=lake, quiet=quiet
    )
    found = session.drift(live=live, days=since)
    if as_json:
        print_json(found.to_json())
    else:
        for one in found.findings:
            click.echo(f"{one}\n    {one.advice}")
        ways = [
            (it.caller or "-", it.virtual_service or "-", it.route or "-", it.target or "-", it)
            for it in found.ways[:WAYS_SHOWN]
        ]
        print_table(
            ("caller", "service", "route", "target", "calls"),
            ((*texts, str(way.calls)) for *texts, way in ways),
        )
        click.echo(
            f"mesh {found.mesh}, version {found.mesh_version}: {found.compared} of {found.calls} "
            f"calls compared, {len(found.findings)} findings"
        )
    if any(one.severity is not Severity.INFO for one in found.findings):
        context.exit(1)
