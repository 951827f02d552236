"""``meshml reload``: living sidecars take the mesh file over as it is now."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table


@click.command("reload", short_help="Have living sidecars serve the mesh file as it is now.")
@click.argument("sidecars", nargs=-1)
@options.options(options.mesh, options.state, options.logs, options.as_json, options.quiet)
@click.pass_context
def reload_command(
    context: click.Context,
    *,
    sidecars: tuple[str, ...],
    mesh: Path | None,
    state: Path | None,
    logs: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Have living sidecars serve the mesh file as it is now, without losing a call.

    SIDECARS are ids or members; without any, all of this mesh's are meant. The file is checked
    first. Each sidecar changes in order (clusters, routes, listeners) and goes back to what it
    served when Envoy refuses anything. Identities that are due are renewed, also where the file is
    the same. Exits 1 when one of them refused.

    Both ends of a call do not change in the same instant: to switch a listener to TLS, let it be
    PERMISSIVE for one reload; to rename an identity, accept both names for one.

    \b
    Examples:
      meshml reload
      meshml reload labels-v2 --mesh canary.yml
    """
    session = options.open_session(mesh=mesh, state=state, logs=logs, quiet=quiet)
    found = session.reload(sidecars)
    if as_json:
        print_json([one.to_json() for one in found])
    elif found:
        rows = ((it.sidecar_id, it.member, it.before, it.outcome, it.reason) for it in found)
        print_table(("sidecar", "member", "served", "outcome", "reason"), rows)
    else:
        click.echo("no sidecar of this mesh lives here")
    if any(one.outcome == "refused" for one in found):
        context.exit(1)
