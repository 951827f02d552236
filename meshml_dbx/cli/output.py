"""How answers look in a terminal: the same JSON and the same table for every command."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import click


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_json(value: object, path: Path) -> None:
    """One JSON document in a file of its own."""
    try:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"could not write {path}: {error.strerror}") from error


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output, as wide as the terminal, or as needed in a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    if console.is_terminal:
        console.print(table)
    else:
        Console(highlight=False, width=240).print(table)


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")
