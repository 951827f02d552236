"""The notebooks are tours: cells that compile, one call each, no function defined."""

import ast
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def code_cells(path: Path) -> list[str]:
    """The Python cells of a notebook in Databricks' source format."""
    cells = path.read_text(encoding="utf-8").split("# COMMAND ----------")
    return [cell for cell in cells if "# MAGIC" not in cell]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_compiles_and_defines_nothing(path: Path) -> None:
    """Logic belongs in the wheel; a notebook only shows it."""
    assert path.read_text(encoding="utf-8").startswith("# Databricks notebook source")
    nodes = [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell))]
    assert not [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda)]


def test_there_is_a_notebook() -> None:
    """The check above sees at least one notebook."""
    assert NOTEBOOKS
