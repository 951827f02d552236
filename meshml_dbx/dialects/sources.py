"""Paths become texts: single files, folders, patterns, and ``-`` for standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from meshml_dbx.errors import MeshMLError

_SUFFIXES = (".json", ".yaml", ".yml", ".template", ".tf", ".tfvars")
_SKIPPED = {"node_modules", "__pycache__"}
_LARGEST = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One text of the input; ``named``: the user named this very file.

    >>> Source(name="app.yaml", raw=b"a: 1", named=True).name
    'app.yaml'
    """

    name: str
    raw: bytes
    named: bool
    path: Path | None = None


def read_sources(paths: Sequence[str]) -> tuple[Source, ...]:
    """Every file that the paths name, each once, in their order; a folder's by name.

    Raises:
        MeshMLError: a path leads to nothing, or a file cannot be read.
    """
    found: dict[object, Source] = {}
    for path in paths:
        for source in _sources(path):
            found.setdefault(source.path.resolve() if source.path else source.name, source)
    return tuple(found.values())


def _sources(path: str) -> Iterator[Source]:
    if path == "-":
        yield Source(name="<stdin>", raw=sys.stdin.buffer.read(), named=True)
    elif Path(path).is_dir():
        yield from (_read(file, named=False) for file in _files_of(Path(path)))
    elif Path(path).exists():
        yield _read(Path(path), named=True)
    else:
        yield from _matching(path)


def _matching(pattern: str) -> Iterator[Source]:
    found = glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    matches = [Path(match) for match in sorted(found)]
    if not matches:
        raise MeshMLError(
            f"could not read {pattern}: there is no such file or folder",
            advice="name files, folders, patterns in quotes, or - for standard input",
        )
    for match in matches:
        if match.is_dir():
            yield from (_read(file, named=False) for file in _files_of(match))
        else:
            yield _read(match, named=False)


def _files_of(folder: Path) -> Iterator[Path]:
    """The files of a folder that may hold definitions; hidden folders are none of ours."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            one for one in folders if not one.startswith(".") and one not in _SKIPPED
        )
        for name in sorted(names):
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                yield Path(root) / name


def _read(path: Path, *, named: bool) -> Source:
    try:
        if path.stat().st_size > _LARGEST:
            raise MeshMLError(
                f"did not read {path}: it is larger than {_LARGEST >> 20} MiB",
                advice="name the files that hold the definitions",
            )
        return Source(name=str(path), raw=path.read_bytes(), named=named, path=path)
    except OSError as error:
        raise MeshMLError(
            f"could not read {path}: {error.strerror}", advice="name a file that you may read"
        ) from error
