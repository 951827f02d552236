"""``meshml fit``: what each way out of App Mesh keeps, approximates and drops."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table

PLANES = ("envoy", "lattice", "service-connect")


@click.command(short_help="Say what each way out of App Mesh would keep and drop.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.options(options.mesh, options.as_json)
@click.option(
    "--plane",
    "planes",
    multiple=True,
    type=click.Choice(PLANES),
    help="Only this plane; may be given several times. [all]",
)
@click.option("--all", "everything", is_flag=True, help="One row for each part, kept ones too.")
def fit(
    *,
    file: Path | None,
    mesh: Path | None,
    as_json: bool,
    planes: tuple[str, ...],
    everything: bool,
) -> None:
    """Say what each way out would keep, approximate and drop of a mesh, part by part, and why.

    The ways are an Envoy of your own (envoy), VPC Lattice (lattice) and ECS Service Connect
    (service-connect). A Databricks job is never inside Service Connect: its members are ECS tasks.
    A row begins with its line in the mesh file. Without --all, parts with the same reasons are one
    row, and what every plane keeps is only counted.

    \b
    Examples:
      meshml fit mesh.yml
      meshml fit mesh.yml --plane lattice --all
      meshml fit --json
    """
    session = options.open_session(mesh=file or mesh, quiet=True)
    report = session.fit(planes)
    if as_json:
        print_json(report.to_json())
        return
    for line in report.summary():
        click.echo(line)
    print_table(report.headings(), report.every_row() if everything else report.grouped_rows())
