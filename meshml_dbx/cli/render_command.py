"""``meshml render``: a member of the mesh for a stock Envoy, here or on another platform."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json
from meshml_dbx.cli.programs import parse_address, parse_app_ports

if TYPE_CHECKING:
    from meshml_dbx.rendering import Certificates, Form, Kind, RenderedFolder

FORMS = ("envoy", "compose", "ecs", "kubernetes")
PORT = click.IntRange(1, 65535)


def parse_bind(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """An address to listen on, or none."""
    return None if value is None else parse_address(context, option, value)


def parse_bucket(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> str | None:
    """An address in S3, and nothing that a shell would read as more than that.

    >>> parse_bucket(None, None, "s3://logs/ml")
    's3://logs/ml'
    """
    if value is None:
        return None
    bucket = value.removeprefix("s3://")
    plain = bucket.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    if bucket == value or not (plain.isascii() and plain.isalnum()):
        raise click.BadParameter(f"{value!r} is no address such as s3://bucket/prefix")
    return value


@click.command(short_help="Write what a stock Envoy needs to be a member of the mesh.")
@options.options(options.mesh, options.state, options.as_json, options.quiet)
@click.option("--node", metavar="NAME", help="Which virtual node of the mesh file this is.")
@click.option("--client", metavar="NAME", help="Which client of the mesh file this is.")
@click.option("--gateway", metavar="NAME", help="Which virtual gateway this is.")
@click.option("--as", "form", type=click.Choice(FORMS), required=True, help="What starts it.")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder to write; it must be empty.",
)
@click.option("--force", is_flag=True, help="Render again into a folder that was rendered before.")
@click.option(
    "--app-port",
    "app_ports",
    multiple=True,
    metavar="[NODE_PORT:]PORT",
    callback=parse_app_ports,
    help="Where a node's program listens, beside Envoy; a node needs it.",
)
@click.option(
    "--bind",
    metavar="ADDRESS",
    callback=parse_bind,
    help="Address for peers. [127.0.0.1; 0.0.0.0 in containers]",
)
@click.option(
    "--egress-port",
    type=PORT,
    default=15001,
    metavar="PORT",
    help="Of the program's proxy. [15001]",
)
@click.option(
    "--grpc-port", type=PORT, default=15002, metavar="PORT", help="For the program's gRPC. [15002]"
)
@click.option(
    "--tcp-port",
    type=PORT,
    default=15010,
    metavar="PORT",
    help="The first of the program's ports for plain TCP services. [15010]",
)
@click.option(
    "--ready-port",
    type=PORT,
    default=15021,
    metavar="PORT",
    help="Tells whether Envoy serves. [15021]",
)
@click.option(
    "--image", metavar="IMAGE", help="A stock Envoy with a shell. [envoyproxy/envoy:v1.40.0]"
)
@click.option("--app-image", metavar="IMAGE", help="The program's image. [left open in the files]")
@click.option(
    "--certificates",
    type=click.Choice(["copy", "mount", "secret"]),
    help="How certificates get to Envoy. [copy for envoy and compose, else secret]",
)
@click.option("--inline-secrets", is_flag=True, help="Write private keys into the Secret's YAML.")
@click.option(
    "--logs-to",
    callback=parse_bucket,
    metavar="s3://BUCKET/PREFIX",
    help="Where ECS and Kubernetes take finished log files. [their standard output]",
)
def render(
    *,
    node: str | None,
    client: str | None,
    gateway: str | None,
    form: "Form",
    folder: Path,
    force: bool,
    mesh: Path | None,
    state: Path | None,
    as_json: bool,
    quiet: bool,
    app_ports: dict[int | None, int],
    bind: str | None,
    egress_port: int,
    grpc_port: int,
    tcp_port: int,
    ready_port: int,
    image: str | None,
    app_image: str | None,
    certificates: "Certificates | None",
    inline_secrets: bool,
    logs_to: str | None,
) -> None:
    """Write all that a stock Envoy needs to be a member of the mesh where nobody runs a sidecar.

    A folder with Envoy's files, certificates, where its log goes, and a README that says how it is
    started, who may speak through it and how it is renewed. --force writes only what has changed
    and touches no file that it did not write.

    \b
    Examples:
      meshml render --node labels-v2 --app-port 9002 --as envoy --out labels-v2
      meshml render --client churn-training --as compose --out training
      meshml render --node labels-v2 --app-port 9002 --as ecs --out task --logs-to s3://logs/ml
      meshml render --gateway edge --as kubernetes --out edge
    """
    given: list[tuple[Kind, str | None]]
    given = [("node", node), ("client", client), ("gateway", gateway)]
    named = [(kind, name) for kind, name in given if name is not None]
    if len(named) != 1:
        raise click.UsageError("give one of --node, --client and --gateway")
    ((kind, name),) = named
    session = options.open_session(mesh=mesh, state=state, quiet=quiet or as_json)
    found = session.render(
        name,
        kind=kind,
        form=form,
        folder=folder,
        force=force,
        app_port=app_ports.get(None),
        app_ports={port: own for port, own in app_ports.items() if port is not None},
        bind=bind,
        egress_port=egress_port,
        grpc_port=grpc_port,
        tcp_port=tcp_port,
        ready_port=ready_port,
        image=image,
        app_image=app_image,
        certificates=certificates,
        inline_secrets=inline_secrets,
        logs_to=logs_to,
    )
    if as_json:
        print_json(to_json(found))
        return
    click.echo(f"{name}: {len(found.files)} files in {folder}, {len(found.written)} of them new")
    click.echo(f"next: read {folder / 'README.md'}")


def to_json(found: "RenderedFolder") -> dict[str, object]:
    """What was written, by names that stay."""
    return {
        "folder": str(found.folder),
        "files": list(found.files),
        "written": list(found.written),
        "sidecar_id": found.sidecar_id,
        "valid_until": found.valid_until,
    }
