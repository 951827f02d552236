"""Help pages are documentation: every command has one, with an example, and they come at once."""

import json
import subprocess
import sys

import click
import pytest

from meshml_dbx.cli import LEADING, cli
from meshml_dbx.session import Session

COMMANDS = {name: cli.commands[name] for name in sorted(cli.commands)}
METHODS = {"import": "import_mesh"}  # import is a word of Python's own
SLOW = ("mlflow", "pyspark", "databricks", "numpy", "jinja2", "cryptography", "rich", "yaml")


def help_of(*words: str) -> str:
    """A help page, as a process of its own prints it."""
    done = subprocess.run(
        [sys.executable, "-m", "meshml_dbx", *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_command_has_a_help_page(name: str, flag: str) -> None:
    """Both spellings work, and the page says what the command is for."""
    page = help_of(*name.split(), flag)
    assert page.startswith("Usage: ")
    text = COMMANDS[name].help if name else cli.help
    assert (text or "").split("\n", maxsplit=1)[0].split()[0] in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(name: str) -> None:
    """The examples of a help page are real calls: their options exist and their values fit."""
    examples = [
        line.split("meshml ", 1)[1].split()
        for line in (COMMANDS[name].help or "").splitlines()
        if line.strip().startswith(f"meshml {name}")
    ]
    assert examples != []
    for _, *words in examples:
        with COMMANDS[name].make_context(name, words) as context:
            assert context.params.keys() == {option.name for option in COMMANDS[name].params}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    """No option without a sentence."""
    options = [it for it in COMMANDS[name].params if isinstance(it, click.Option)]
    assert [it.name for it in options if not it.help] == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_a_command_has_the_name_of_its_method(name: str) -> None:
    """What is learnt on the command line holds in Python."""
    assert callable(getattr(Session, METHODS.get(name, name)))


def test_the_leading_verbs_come_first() -> None:
    """The four that matter most open the list."""
    listed = help_of("-h").split("Commands:\n")[1].splitlines()
    assert tuple(line.split()[0] for line in listed[:4]) == LEADING


def test_the_list_of_commands_cuts_no_sentence() -> None:
    """Each command has its one line, whole in a terminal of 80 columns."""
    listed = help_of("-h").split("Commands:\n")[1].splitlines()
    assert len(listed) == len(COMMANDS)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_without_a_command_there_is_help() -> None:
    """Nothing to do is wrong use, and answered by the help page."""
    done = subprocess.run(
        [sys.executable, "-m", "meshml_dbx"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Start here:" in done.stderr


def test_the_version_is_told() -> None:
    """One line, for bug reports."""
    assert help_of("--version").startswith("meshml, version ")


@pytest.mark.parametrize(
    ("words", "may"),
    [(("-h",), ()), (("run", "-h"), ()), (("check", "no.yml"), ("yaml",))],
)
def test_nothing_slow_is_imported_for_nothing(words: tuple[str, ...], may: tuple[str, ...]) -> None:
    """A help page and a check come at once: what only a journey needs is not imported."""
    code = f"""
import json, sys
sys.argv = ["meshml", *{words!r}]
from meshml_dbx.cli import main
try:
    main()
except SystemExit:
    print(json.dumps(sorted(set({SLOW!r}) & set(sys.modules))), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(json.loads(done.stderr.splitlines()[-1])) == may
