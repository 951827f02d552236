"""``meshml run``, ``sidecar`` and ``record``: a program, with a proxy beside it or without one."""

from ipaddress import ip_address
from pathlib import Path

import click

from meshml_dbx.cli import options

COMMAND = click.argument("command", nargs=-1, type=click.UNPROCESSED)
LAST_PORT = 65535
PASS_ON = {"ignore_unknown_options": False, "allow_interspersed_args": False}


def parse_address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """An address to listen on: Envoy takes no host name, which could mean several."""
    try:
        return str(ip_address(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not an IP address, such as 127.0.0.1") from error


def parse_app_ports(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[int | None, int]:
    """Where the program listens: for all ports of the node (None), or for the one before the colon.

    >>> parse_app_ports(None, None, ("9002", "8080:9003"))
    {None: 9002, 8080: 9003}
    """
    found: dict[int | None, int] = {}
    for value in values:
        port, _, own = value.rpartition(":")
        numbers = [int(one) if one.isdecimal() else 0 for one in (port or "1", own)]
        if not all(1 <= number <= LAST_PORT for number in numbers):
            raise click.BadParameter(f"{value} is neither a port nor NODE_PORT:PROGRAM_PORT")
        found[numbers[0] if port else None] = numbers[1]
    return found


@click.command(context_settings=PASS_ON)
@options.options(options.mesh, options.state, options.logs, options.tracking, options.quiet)
@click.option(
    "--client", metavar="NAME", required=True, help="Which client of the mesh file this program is."
)
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

    gRPC goes through that proxy too, or dials MESHML_GRPC_PROXY (or the socket of
    MESHML_GRPC_SOCKET) with the service's name as its authority. A plain TCP service has a local
    port, MESHML_TCP_<SERVICE>. The proxy and the socket are for this program alone; the two kinds
    of ports are open to every program of this machine, which then calls as this client.

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


@click.command(
    context_settings=PASS_ON,
    short_help="Serve a virtual node or gateway: a proxy with its identity.",
)
@options.options(options.mesh, options.state, options.logs, options.quiet)
@click.option("--node", metavar="NAME", help="Which virtual node of the mesh file this is.")
@click.option("--gateway", metavar="NAME", help="Which virtual gateway this is; it has no program.")
@click.option(
    "--app-port",
    "app_ports",
    multiple=True,
    metavar="[NODE_PORT:]PORT",
    callback=parse_app_ports,
    help="Where the program listens. [the PORT that it is given; PORT_8080 for port 8080]",
)
@click.option(
    "--bind",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    callback=parse_address,
    help="Address for peers.",
)
@COMMAND
def sidecar(
    *,
    node: str | None,
    gateway: str | None,
    command: tuple[str, ...],
    mesh: Path | None,
    state: Path | None,
    logs: Path | None,
    app_ports: dict[int | None, int],
    bind: str,
    quiet: bool,
) -> int:
    """Serve a virtual node, its proxy in front of a program, or a virtual gateway, without one.

    The proxy has the member's identity. Without a command the program is somebody else's, at
    --app-port, and the sidecar stays until it gets a signal; so does a gateway's.

    \b
    Examples:
      meshml sidecar --mesh mesh.yml --node labels-v2 -- python labels.py
      meshml sidecar --mesh mesh.yml --node labels-v2 --app-port 9002
      meshml sidecar --mesh mesh.yml --gateway edge --bind 0.0.0.0
    """
    if (node is None) == (gateway is None):
        raise click.UsageError("give --node or --gateway")
    session = options.open_session(mesh=mesh, state=state, logs=logs, quiet=quiet)
    if gateway is not None:
        if command or app_ports:
            raise click.UsageError("a gateway has no program: it leads to virtual services")
        return session.gateway(gateway, bind=bind)
    if not command and not app_ports:
        raise click.UsageError("give a program after --, or the --app-port of a running one")
    own = {port: number for port, number in app_ports.items() if port is not None}
    return session.sidecar(
        node or "", command, app_port=app_ports.get(None), app_ports=own, bind=bind
    )


@click.command(
    context_settings=PASS_ON, short_help="Run a Python program that records its own calls: no mesh."
)
@options.options(options.mesh, options.state, options.logs, options.tracking, options.quiet)
@click.option("--client", metavar="NAME", help="What this program is called. [its file's name]")
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
