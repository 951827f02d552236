"""``meshml demo``: the whole journey on this machine, with a fault to find."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json
from meshml_dbx.demo.faults import DEFAULT_FAULT, FAULTS


@click.command(short_help="Train through a small real mesh here, with a fault to find.")
@click.option(
    "--fault",
    type=click.Choice(list(FAULTS)),
    default=DEFAULT_FAULT,
    show_default=True,
    help="What goes wrong in the second run.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(".meshml/demo"),
    show_default=True,
    help="Where the demo lives; its state folder.",
)
@options.options(options.as_json, options.quiet)
@click.option("--keep-running", is_flag=True, help="Leave the services up until Ctrl-C.")
@click.option("--recorded", is_flag=True, help="Answer from a recording: no Java, Spark or Envoy.")
def demo(
    *, fault: str, folder: Path, as_json: bool, quiet: bool, keep_running: bool, recorded: bool
) -> None:
    """Start a small real mesh here, train a model through it, and say what made the run slow.

    Two runs: a healthy one, then one with a fault that is made in a service or in the mesh.

    \b
    Examples:
      meshml demo
      meshml demo --fault retry-storm
      meshml demo --recorded
    """
    from meshml_dbx.demo.journey import play_demo, play_recording

    say = options.silent if quiet else options.say
    if recorded:
        outcome = play_recording(folder, say=say)
    else:
        outcome = play_demo(folder, fault=fault, keep_running=keep_running, say=say)
    if as_json:
        print_json(outcome.to_json())
    else:
        click.echo(outcome.text)
