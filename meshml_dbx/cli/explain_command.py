"""``meshml explain``: which way a call would go, and why."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json


@click.command(short_help="Say which route a call takes, and why.")
@click.argument("method_and_url", metavar="[METHOD] URL", nargs=-1)
@options.options(options.mesh, options.as_json)
@click.option("--client", metavar="NAME", help="The client that calls.")
@click.option("--node", metavar="NAME", help="The virtual node that calls.")
@click.option("--gateway", metavar="NAME", help="The virtual gateway that is called.")
@click.option("--service", metavar="NAME", help="The virtual service alone, whoever calls it.")
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'K: V'",
    help="A header of the call; again for each.",
)
@click.option("--grpc", metavar="SERVICE/METHOD", help="Make it a gRPC call of this method.")
@click.option("--tcp", metavar="SERVICE:PORT", help="A plain TCP connection instead of a request.")
@click.pass_context
def explain(
    context: click.Context,
    *,
    method_and_url: tuple[str, ...],
    mesh: Path | None,
    as_json: bool,
    client: str | None,
    node: str | None,
    gateway: str | None,
    service: str | None,
    headers: tuple[str, ...],
    grpc: str | None,
    tcp: str | None,
) -> None:
    """Say which route a call takes, and why: every rule that is asked, in order.

    Then the targets with their shares, time-outs and retries with the line that each comes from,
    and who is expected at the other end. Say who calls by --client or --node, where a call comes
    in by --gateway, or look at one --service. Exits 1 when nobody takes the call.

    \b
    Examples:
      meshml explain --client churn-training GET http://labels.ml.local/v1/labels?day=1
      meshml explain --client churn-training http://labels.ml.local/v1 -H 'x-cohort: b' --json
      meshml explain --node training GET http://labels.ml.local/v1/labels
      meshml explain --gateway way-in POST http://api.example.com/orders
      meshml explain --client churn-training --grpc features.v1.Features/Get http://features.ml.local
      meshml explain --client churn-training --tcp store.ml.local:5432
    """
    callers = [it for it in (client, node, gateway, service) if it]
    if len(callers) > 1:
        raise click.UsageError("name one of --client, --node, --gateway and --service")
    if bool(method_and_url) == bool(tcp):
        raise click.UsageError("give an address, such as http://NAME/path, or --tcp")
    session = options.open_session(mesh=mesh, quiet=True)
    found = session.explain(
        method_and_url,
        client=client,
        node=node,
        gateway=gateway,
        service=service,
        headers=headers,
        grpc=grpc,
        tcp=tcp,
    )
    if as_json:
        print_json(found.to_json())
    else:
        click.echo("\n".join(found.lines()))
    if not found.is_taken:
        context.exit(1)
