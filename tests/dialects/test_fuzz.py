"""Broken copies of good definitions: an answer with a place, at once, whatever is in the file."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshml_dbx.dialects import Imported, Wanted
from tests.dialects.importing import CORPORA, EXAMPLES, imported_text

SUFFIXES = {".json", ".yaml", ".yml", ".template", ".tf"}
COPIES_IN_THE_GATE, COPIES_IN_THE_SOAK = 14, 250
AWKWARD = "{}[]:,\"'&*!|>-\t#$%@`\\\x00é\u2028"
LONGEST_S = 2.0
PLACED = re.compile(r"(?P<file>[^:]+):(?P<line>[1-9]\d*)( .*)?", re.DOTALL)
NOT_OF_A_FILE = {"import-injected-defaults", "import-unused-parameter"}


def good_files() -> list[Path]:
    """Every definition of the corpora and of our own examples that is not broken already."""
    found = [path for folder in (CORPORA, EXAMPLES) for path in sorted(folder.rglob("*"))]
    return [
        path
        for path in found
        if path.suffix in SUFFIXES and path.parent not in (CORPORA, CORPORA / "negative")
    ]


# --- ways to break a text ---------------------------------------------------------------------


def cut(text: str, chance: random.Random) -> str:
    """The beginning, up to anywhere."""
    return text[: chance.randrange(len(text) + 1)]


def without_a_line(text: str, chance: random.Random) -> str:
    """One line less."""
    lines = text.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return "".join(lines)


def with_a_line_twice(text: str, chance: random.Random) -> str:
    """One line again, somewhere else."""
    lines = text.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return "".join(lines)


def shifted(text: str, chance: random.Random) -> str:
    """One line further in, or less far."""
    lines = text.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    lines[at] = f"  {lines[at]}" if chance.random() < 0.5 else lines[at].removeprefix("  ")
    return "".join(lines)


def with_another_character(text: str, chance: random.Random) -> str:
    """One character that means something to YAML, JSON or HCL, in the place of another."""
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(AWKWARD) + text[at + 1 :]


def with_a_word_moved(text: str, chance: random.Random) -> str:
    """One word of the file in the place of another."""
    words = list(re.finditer(r"[\w.-]+", text))
    if not words:
        return f"{text}{{"
    at, other = chance.choice(words), chance.choice(words)
    return text[: at.start()] + other[0] + text[at.end() :]


def with_another_value(text: str, chance: random.Random) -> str:
    """A value of another type in the place of a word."""
    words = list(re.finditer(r"[\w.-]+", text))
    if not words:
        return f"{text}]"
    at = chance.choice(words)
    value = chance.choice(["null", "[]", "{}", "[[[]]]", "-1", "1e9", "true", '""', "*x", "!Ref x"])
    return text[: at.start()] + value + text[at.end() :]


WAYS: list[Callable[[str, random.Random], str]] = [
    cut,
    without_a_line,
    with_a_line_twice,
    shifted,
    with_another_character,
    with_a_word_moved,
    with_another_value,
]


# --- what must hold ---------------------------------------------------------------------------


def broken(path: Path, copies: int) -> list[str]:
    """What went wrong with broken copies of a file; nothing, if every answer was fit."""
    chance = random.Random(path.name)
    text = path.read_text(encoding="utf-8")
    found = []
    for number in range(copies):
        way = WAYS[number % len(WAYS)]
        copy = way(text, chance)
        for _ in range(chance.randrange(3)):
            copy = chance.choice(WAYS)(copy, chance) if copy else "- "
        problem = problem_with(copy, path.name)
        found += [f"{way.__name__} {number}: {problem}"] if problem else []
    return found


def problem_with(text: str, name: str) -> str:
    """What is wrong with the answer to a text; nothing if it is a mesh or says what is wrong."""
    began = time.perf_counter()
    answer = imported_text(text, name=name, wanted=Wanted(mesh_name="given"))
    took = time.perf_counter() - began
    if took > LONGEST_S:
        return f"took {took:.1f} s"
    lines = text.count("\n") + 1
    for one in answer.findings + answer.checked:
        placed = PLACED.fullmatch(one.where)
        fits = placed and placed["file"] == name and int(placed["line"]) <= lines
        if one.code not in NOT_OF_A_FILE and not fits:
            return f"a finding without a place: {one}"
    return "" if answers(answer) else "neither a mesh nor an error"


def answers(found: Imported) -> bool:
    """Whether there is a mesh, or a word on why there is none."""
    return found.mesh is not None or not found.complete or bool(found.checked)


@pytest.mark.parametrize("path", good_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_broken_copies_get_an_answer(path: Path) -> None:
    """No crash, no hang, no silence: a mesh, or an error that names the file and a line of it."""
    assert broken(path, COPIES_IN_THE_GATE) == []


@pytest.mark.soak
@pytest.mark.parametrize("path", good_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_many_broken_copies_get_an_answer(path: Path) -> None:
    """The same with many more copies of each file."""
    assert broken(path, COPIES_IN_THE_SOAK) == []
