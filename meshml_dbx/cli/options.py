"""The options that commands share, each mirrored by a ``MESHML_…`` variable."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from meshml_dbx.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])

state = click.option(
    "--state", type=click.Path(path_type=Path), help="Folder of everything meshml writes. [.meshml]"
)
mesh = click.option("--mesh", type=click.Path(path_type=Path), help="The mesh file. [mesh.yml]")
logs = click.option(
    "--logs", type=click.Path(path_type=Path), help="The log folder. [<state>/logs]"
)
lake = click.option("--lake", help="A folder, or CATALOG.SCHEMA. [<state>/lake]")
tracking = click.option("--tracking", help="MLflow's tracking URI. [MLflow's own]")
as_json = click.option("--json", "as_json", is_flag=True, envvar="MESHML_JSON", help="Print JSON.")
quiet = click.option(
    "--quiet", is_flag=True, envvar="MESHML_QUIET", help="No progress on standard error."
)


def options(*chosen: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help page."""

    def decorate(command: Command) -> Command:
        for option in reversed(chosen):
            command = option(command)
        return command

    return decorate


def open_session(*, quiet: bool, **given: str | Path | None) -> "Session":
    """A session with these options, telling its progress on standard error.

    Imported here, so that a help page does not wait for what only a journey needs.
    """
    from meshml_dbx.session import Session
    from meshml_dbx.settings import read_settings

    return Session(read_settings(None, **given), say=silent if quiet else say)


def say(line: str) -> None:
    """Show a line of progress."""
    click.echo(line, err=True)


def silent(line: str) -> None:
    """Show no progress."""
    del line
