"""``meshml run``, ``sidecar`` and ``record``: a program, with a proxy beside it or without one."""

from ipaddress import ip_address
from pathlib import Path

import click

from meshml_dbx.cli import options

COMMAND = click.argument("command", nargs=-1, type=click.UNPROCESSED)
PASS_ON = {"ignore_unknown_options": False, "allow_interspersed_args": False}


def parse_address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """An address to listen on: Envoy takes no host name, which could mean several."""
    try:
        return str(ip_address(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not an IP address, such as 127.0.0.1") from error


@click.command(context_settings=PASS_ON)
@options.options(options.mesh, options.state, options.logs, options.tracking, options.quiet)
@click.option("--client", required=True, help="Which client of the mesh file this program is.")
@COMMAND
def run(
    *,
    client: str,
    command: tuple[str, ...],
    mesh: Path | None,
    state: Path | None,
    logs: Path | None,
    tracking: str | None,
    quiet: bool,
) -> int:
    """Run a program as a client of the mesh and record its calls.

    The program needs no change: http and https go through a proxy of its own, which ends with it.
    Its exit status is passed on.

    \b
    Example:
      meshml run --mesh mesh.yml --client churn-training -- python train.py
    """
    if not command:
        raise click.UsageError(f"which program? meshml run --client {client} -- python train.py")
    session = options.open_session(
        mesh=mesh, state=state, logs=logs, tracking=tracking, quiet=quiet
    )
    return session.run(client, command)


@click.command(context_settings=PASS_ON)
@options.options(options.mesh, options.state, options.logs, options.quiet)
@click.option("--node", required=True, help="Which virtual node of the mesh file this is.")
@click.option(
    "--app-port",
    type=click.IntRange(1, 65535),
    help="Where the program listens. [the PORT that it is given]",
)
@click.option(
    "--bind",
    default="127.0.0.1",
    show_default=True,
    callback=parse_address,
    help="Address for peers.",
)
@COMMAND
def sidecar(
    *,
    node: str,
    command: tuple[str, ...],
    mesh: Path | None,
    state: Path | None,
    logs: Path | None,
    app_port: int | None,
    bind: str,
    quiet: bool,
) -> int:
    """Serve a virtual node: a proxy with the node's identity in front of a program.

    Without a command the program is somebody else's, at --app-port, and the sidecar stays until
    it gets a signal.

    \b
    Examples:
      meshml sidecar --mesh mesh.yml --node labels-v2 -- python labels.py
      meshml sidecar --mesh mesh.yml --node labels-v2 --app-port 9002
    """
    if not command and app_port is None:
        raise click.UsageError("give a program after --, or the --app-port of a running one")
    session = options.open_session(mesh=mesh, state=state, logs=logs, quiet=quiet)
    return session.sidecar(node, command, app_port=app_port, bind=bind)


@click.command(context_settings=PASS_ON)
@options.options(options.mesh, options.state, options.logs, options.tracking, options.quiet)
@click.option("--client", help="What this program is called. [its file's name]")
@COMMAND
def record(
    *,
    client: str | None,
    command: tuple[str, ...],
    mesh: Path | None,
    state: Path | None,
    logs: Path | None,
    tracking: str | None,
    quiet: bool,
) -> int:
    """Run a Python program that records its own calls: no mesh, no proxy, https seen from within.

    The program needs no change, but its Python needs meshml_dbx. It and every Python that it starts
    record urllib3 (so requests, boto3, MLflow, databricks-sdk), http.client, httpx and aiohttp.
    With a mesh file its services' names are used. The exit status is passed on.

    \b
    Examples:
      meshml record -- python train.py
      meshml record --client churn-training -- python -m churn.train --rows 1000
    """
    if not command:
        raise click.UsageError("which program? meshml record -- python train.py")
    session = options.open_session(
        mesh=mesh, state=state, logs=logs, tracking=tracking, quiet=quiet
    )
    return session.record(command, client=client)
