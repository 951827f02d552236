"""Copies of parts of logs, which are whole or absent and never change again.

Goes in: a segment that ``follow`` found, and a folder. Comes out: the file that holds its bytes,
under a name that is the same each time; Spark reads such files and no others. Of a part that holds
Firehose's documents, as its content tells, the file has the lines that they carry.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from meshml_dbx.errors import LogFolderError
from meshml_dbx.lake.envelope import HEAD, Unwrapped, is_wrapped, unwrap
from meshml_dbx.lake.follow import Segment
from meshml_dbx.lake.log_content import TAIL, Content, short_digest

PART = ".part"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def spool(segment: Segment, folder: Path, seen: Unwrapped | None = None) -> Path | None:
    """The file in this folder that holds the segment; made once, however often it is asked for.

    None when the file was renamed, cut or removed since it was looked at: the next look finds the
    same segment under its new name, as long as any file has it. ``seen`` takes up what was wrapped
    around its lines.

    Raises:
        LogFolderError: the folder cannot be written to, or the log cannot be read.
    """
    target = folder / segment.name
    if target.is_file():
        return target
    try:
        with Content.open(segment.path) as content, new_file(target) as part:
            if _copy(content, segment, part):
                _finish_lines(part, target, Unwrapped() if seen is None else seen)
                return target
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LogFolderError(
            f"cannot read {segment.path}: {error.strerror or error}",
            advice="let the reading user have read access to it, or leave it out of the pattern",
        ) from error
    return None


def remove_parts(folder: Path) -> None:
    """Remove what copying has left that was killed; hold the follower's lock meanwhile."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


def _copy(content: Content, segment: Segment, part: BinaryIO) -> bool:
    """Whether the log still has what was found there; it is copied as it is read."""
    length, digest = segment.mark
    if short_digest(content.head()[:length]) != digest:
        return False
    first = max(segment.begin - TAIL, 0)
    skip, left, last = segment.begin - first, segment.end - first, b""
    for block in content.blocks(first):
        wanted = block[:left]
        write_all(part, wanted[skip:])
        skip, left = max(skip - len(wanted), 0), left - len(wanted)
        last = (last + wanted[-TAIL:])[-TAIL:]
        if not left:
            break
    return left == 0 and short_digest(last) == segment.tail


def _finish_lines(part: BinaryIO, target: Path, seen: Unwrapped) -> None:
    """Give the part its name, or the lines that are wrapped in it."""
    with Path(part.name).open("rb") as copied:
        if not is_wrapped(copied.read(HEAD)):
            finish(part, target)
            return
        copied.seek(0)
        with new_file(target) as lines:
            for block in unwrap(copied, seen):
                write_all(lines, block)
            finish(lines, target)


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A file beside the target, which is gone at the end unless it was given its name."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART}")
    with _explained(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("xb", buffering=0)
    try:
        with file:
            yield file
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_all(part: BinaryIO, block: bytes) -> None:
    """Append a block to a new file.

    Raises:
        LogFolderError: the disk is full, or will not have it.
    """
    with _explained(Path(part.name).parent):
        rest = memoryview(block)
        while rest:
            rest = rest[part.write(rest) :]


def finish(part: BinaryIO, target: Path) -> None:
    """Give the file its name once its bytes are on the disk, so that it is never there in part.

    Raises:
        LogFolderError: as ``write_all``.
    """
    with _explained(target.parent):
        try:
            os.fsync(part.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
        Path(part.name).replace(target)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "name a spool folder that may be written to"
        if error.errno in _FULL:
            advice = "free space there, or name a spool folder elsewhere; then run it again"
        raise LogFolderError(
            f"cannot write to {folder}: {error.strerror or error}", advice=advice
        ) from error
