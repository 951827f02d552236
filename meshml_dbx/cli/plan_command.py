"""``meshml plan``: what would be created on another plane, and what it would cost."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table


@click.command(short_help="Print what would be created on VPC Lattice, and its price.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.options(options.mesh, options.as_json)
@click.option("--plane", type=click.Choice(["lattice"]), default="lattice", help="Where. [lattice]")
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value that only you know, such as VPC_ID=vpc-…; may be given several times.",
)
@click.option(
    "--traffic",
    nargs=2,
    type=click.FloatRange(min=0),
    metavar="REQUESTS GIGABYTES",
    help="What a month brings, for the price.",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0),
    default=730.0,
    metavar="HOURS",
    help="How long everything stands, for the price. [730, a month]",
)
@click.option("--region", metavar="REGION", help="Of AWS; prices are known of us-east-1 alone.")
def plan(
    *,
    file: Path | None,
    mesh: Path | None,
    as_json: bool,
    plane: str,
    given: tuple[str, ...],
    traffic: tuple[float, float] | None,
    hours: float,
    region: str | None,
) -> None:
    """Print what would be created for a mesh, in order, with what it leaves out and would cost.

    Nothing is created. Each step's body is a request of the AWS API: --json prints it. What the
    plane cannot carry is told on standard error. Values that only you know stay open, as ${NAME},
    until they are given.

    \b
    Examples:
      meshml plan mesh.yml --plane lattice
      meshml plan mesh.yml --traffic 40000000 120 --region us-east-1
      meshml plan mesh.yml --param VPC_ID=vpc-0a1b2c3d4e5f60718 --json
    """
    session = options.open_session(mesh=file or mesh, quiet=True)
    report = session.plan(plane, values=_values(given), traffic=traffic, hours=hours, region=region)
    for found in report.findings:
        click.echo(f"{found}\n    {found.advice}", err=True)
    for name in report.unused:
        click.echo(f"warning: --param {name}: the plan has no such open value", err=True)
    if as_json:
        print_json(report.to_json())
        return
    print_table(("step", "action", "kind", "name", "after"), report.rows())
    click.echo(report.summary())
    for name, meaning in report.made.unknowns.items():
        click.echo(f"open: {name}: {meaning}")
    for line in report.price_lines():
        click.echo(line)


def _values(given: tuple[str, ...]) -> dict[str, str]:
    values = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair} is not NAME=VALUE", param_hint="--param")
        values[name] = value
    return values
