"""``meshml``: one command per journey, in the words of ``Session``'s methods.

A command parses, calls one method and prints. Exit status: 0 done, 1 findings of severity error,
2 wrong use, 3 an error of ours, else the status of the program that was run.
"""

import sys

import click

from meshml_dbx.cli.check_command import check
from meshml_dbx.cli.commands import ingest, why
from meshml_dbx.cli.cost_command import cost
from meshml_dbx.cli.demo_command import demo
from meshml_dbx.cli.drift_command import drift
from meshml_dbx.cli.explain_command import explain
from meshml_dbx.cli.fit_command import fit
from meshml_dbx.cli.hops_command import hops
from meshml_dbx.cli.import_command import import_mesh
from meshml_dbx.cli.plan_command import plan
from meshml_dbx.cli.programs import record, run, sidecar
from meshml_dbx.cli.prune_command import prune
from meshml_dbx.cli.quarantine_command import quarantine
from meshml_dbx.cli.reload_command import reload_command
from meshml_dbx.cli.render_command import render
from meshml_dbx.cli.schema_command import schema
from meshml_dbx.cli.watch_command import watch
from meshml_dbx.errors import MeshInvalidError, MeshMLError

FINDINGS, WRONG_USE, OURS, INTERRUPTED = 1, 2, 3, 130
LEADING = ("demo", "run", "why", "check")


class LeadingVerbs(click.Group):
    """A group whose help lists the four verbs that matter most first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, leading verbs first."""
        others = [name for name in super().list_commands(ctx) if name not in LEADING]
        return [*LEADING, *others]


@click.group(cls=LeadingVerbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshml_dbx", prog_name="meshml")
def cli() -> None:
    """Which service, route or retry storm slows which ML run: recorded, joined, answered.

    \b
    Start here:
      meshml demo                                    a real mesh on this machine, with a fault
      meshml record -- python train.py               your program, recorded: no mesh needed
      meshml run --client NAME -- python train.py    your program as a client of a mesh
      meshml why last                                the answer
      meshml import app-mesh/ --out mesh.yml         your App Mesh definitions, as a mesh file
    """


for command in (
    check,
    cost,
    demo,
    drift,
    explain,
    fit,
    hops,
    import_mesh,
    ingest,
    plan,
    prune,
    quarantine,
    record,
    reload_command,
    render,
    run,
    schema,
    sidecar,
    watch,
    why,
):
    cli.add_command(command)


def main() -> None:
    """Run a command; turn what went wrong into one message and an exit status."""
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(WRONG_USE)
    except MeshInvalidError as invalid:
        click.echo(f"error: {invalid}", err=True)
        sys.exit(FINDINGS)
    except MeshMLError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(OURS)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
