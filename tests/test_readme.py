"""The README is tested: its ``console`` blocks are run, and what they show must be what is said.

A block is commands after ``$``, each with the lines that it prints. A line of ``…`` stands for any
number of lines, and ``…`` within a line for any text; runs of spaces count as one, so that a table
may be shown narrower than it is printed.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshml_dbx.cli import cli
from meshml_dbx.planes.fit import TITLES
from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings
from tests.mesh.ml_example import EVERY_FIELD

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
CUT = "…"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(meshml [^`]+)`")
LINK = re.compile(r"\]\(([^)#:]+)\)")
ANCHOR = re.compile(r"\]\(#([^)]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NEXT_STEPS = re.compile(r"^\| `(meshml [^`]+)` \|.*\|$", re.MULTILINE)
WITHOUT_SIDECARS = {"check", "schema", "render", "plan", "import"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A command of the README, and the lines that it shows of what the command prints."""

    words: tuple[str, ...]
    lines: tuple[str, ...]


def shown_commands() -> Iterator[Shown]:
    """The commands of all ``console`` blocks, in the order of the text."""
    for language, text in BLOCK.findall(README):
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *lines = part.splitlines()
                yield Shown(words=tuple(shlex.split(command)), lines=tuple(lines))


def listed_commands() -> Iterator[str]:
    """The commands of the blocks that only list them, each with a remark behind it."""
    for language, text in BLOCK.findall(README):
        if not language and text.startswith("meshml "):
            yield from (line.split(" # ")[0].strip() for line in text.splitlines())


SHOWN = tuple(shown_commands())


def run(words: tuple[str, ...], folder: Path) -> list[str]:
    """What a command prints on both its streams."""
    assert words[0] == "meshml"
    done = subprocess.run(
        [sys.executable, "-m", "meshml_dbx", *words[1:]],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.splitlines()


def squeezed(line: str) -> str:
    """A line with its runs of spaces as one."""
    return " ".join(line.split())


def stands_for(shown: str, printed: str) -> bool:
    """Whether a shown line is a printed one, but for what is cut out of it."""
    parts = [re.escape(squeezed(part)) for part in shown.split(CUT)]
    return re.fullmatch(r"\s*" + ".*".join(parts).strip() + r"\s*", squeezed(printed)) is not None


def first_lie(shown: tuple[str, ...], printed: list[str]) -> str | None:
    """The first shown line that is not printed where it is shown to be; None where all are."""
    at, anywhere = 0, False
    for line in shown:
        if line.strip() == CUT:
            anywhere = True
            continue
        found = next(
            (n for n in range(at, len(printed)) if stands_for(line, printed[n])),
            None,
        )
        if found is None or (found > at and not anywhere):
            return line
        at, anywhere = found + 1, False
    return None if anywhere or at == len(printed) else f"(the end, and not {printed[at]!r})"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's examples, as a fresh clone has them."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(PROJECT / "notebooks", folder / "notebooks")
    return folder


@pytest.fixture(scope="module")
def printed(clone: Path) -> dict[Shown, list[str]]:
    """What each shown command prints, run one after the other."""
    return {shown: run(shown.words, clone) for shown in SHOWN}


def test_the_walk_is_there() -> None:
    """Import, check, explain and fit, in this order: what the tests below see."""
    assert [shown.words[1] for shown in SHOWN] == ["import", "check", "explain", "fit"]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.words[1])
def test_a_command_prints_what_the_readme_shows(
    shown: Shown, printed: dict[Shown, list[str]]
) -> None:
    """Every shown line is printed, in this order, with nothing left out that is not marked."""
    assert first_lie(shown.lines, printed[shown]) is None, "\n".join(printed[shown])


@pytest.mark.parametrize(
    ("shown", "lie"),
    [
        (("a b", "c"), None),
        (("a …", "c"), None),
        (("…", "c"), None),
        (("a  b", "…"), None),
        (("c",), "c"),
        (("a b",), "(the end, and not 'c')"),
        (("a …", "d"), "d"),
        (("…", "c", "a b"), "a b"),
        (("… a", "c"), "… a"),
    ],
)
def test_a_lie_is_found(shown: tuple[str, ...], lie: str | None) -> None:
    """The comparison itself: lines that are wrong, missing, unmarked or out of order."""
    assert first_lie(shown, ["a   b", "c"]) == lie


@pytest.mark.parametrize("command", dict.fromkeys((*INLINE.findall(README), *listed_commands())))
def test_a_command_in_the_text_parses(command: str) -> None:
    """Every ``meshml`` call of the text names a command and options that exist."""
    name, *words = shlex.split(command.split(" && ", maxsplit=1)[0])[1:]
    if name in cli.commands and words and CUT not in words and "RUN" not in words:
        with cli.commands[name].make_context(name, words) as context:
            assert context.command.name == name
    else:
        assert name in {*cli.commands, "VERB"}


def test_every_command_is_in_the_readme() -> None:
    """Nobody has to find a command by its help page alone."""
    assert [name for name in cli.commands if f"meshml {name}" not in README] == []


def test_the_next_steps_run(printed: dict[Shown, list[str]], clone: Path) -> None:
    """Each row of the table after the walk is a command that does its work on the walk's mesh.

    Those of living sidecars have tests of their own. The price and the steps of the plan are named.
    """
    steps = [shlex.split(command) for command in NEXT_STEPS.findall(README)]
    told = {words[1]: run(tuple(words), clone) for words in steps if words[1] in WITHOUT_SIDECARS}
    assert set(told) == WITHOUT_SIDECARS
    number = next(line.split()[0] for line in told["plan"] if "resources to create" in line)
    month = next(line.split()[-1] for line in told["plan"] if line.startswith("a month: "))
    assert f"here {number} steps and {month} a month" in README
    assert (clone / "labels-v2" / "workload.yaml").is_file()
    assert len(list((clone / "requests").glob("*.json"))) == 12


@pytest.mark.parametrize("title", TITLES.values())
def test_what_a_plane_drops_is_what_fit_says(title: str) -> None:
    """The table of what is dropped, against ``fit`` of the file in which every field occurs."""
    report = Session(read_settings({}, mesh=EVERY_FIELD)).fit()
    (row,) = re.findall(rf"^\| {title} \| (.*) \|$", README, re.MULTILINE)
    of_plane = {
        it.topic for it in report.rows if it.verdict == "dropped" and TITLES[it.plane] == title
    }
    assert set(row.split(", ")) == of_plane


@pytest.mark.parametrize("target", dict.fromkeys(LINK.findall(README)))
def test_a_link_leads_somewhere(target: str) -> None:
    """Links into the project name files that are there."""
    assert (PROJECT / target).exists()


@pytest.mark.parametrize("anchor", dict.fromkeys(ANCHOR.findall(README)))
def test_an_anchor_is_a_heading(anchor: str) -> None:
    """Links within the page name headings that it has."""
    assert anchor in {heading.lower().replace(" ", "-") for heading in HEADING.findall(README)}


def test_the_install_comes_first() -> None:
    """The first two ``sh`` blocks are the demo's and the tests' lines: whoever copies them runs."""
    blocks = [text for language, text in BLOCK.findall(README) if language == "sh"]
    assert blocks[0].strip().endswith("meshml demo")
    assert blocks[1].strip().endswith("pytest")
