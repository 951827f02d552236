"""The files that somebody means by folders and patterns; Unity Catalog volumes are paths too."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from meshml_dbx.errors import LogFolderError


def find_log_files(patterns: Iterable[str | Path]) -> tuple[Path, ...]:
    """All files that these name, by name; what is hidden counts only when it is named itself.

    Raises:
        LogFolderError: one that is no pattern does not exist, or may not be listed.
    """
    return tuple(sorted({path for pattern in patterns for path in _files(str(pattern))}))


def _files(pattern: str) -> Iterator[Path]:
    path = Path(pattern)
    try:
        if path.is_dir():
            yield from _beneath(path)
        elif path.is_file():
            yield path
        elif glob.has_magic(pattern):
            found = map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207  # may be absolute
            yield from (one for one in found if one.is_file())
        else:
            raise FileNotFoundError(2, "No such file or directory", pattern)
    except OSError as error:
        raise LogFolderError(
            f"cannot list the logs of {error.filename or pattern}: {error.strerror or error}",
            advice="name a folder, a file, or a pattern such as '/var/log/envoy/*.log*'",
        ) from error


def _beneath(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a folder may go while it is listed
            raise error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))
