"""Whatever happens to logs, and whenever the follower is killed: each line is copied once."""

import gzip
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lake.following import SETTLE_S, Follower, compress


class Writer:
    """A program that logs and a log rotation that disturbs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "access.log"
        self.lines: list[str] = []
        self.file = self.path.open("ab", buffering=0)
        self.writes_to = self.path
        self.half: bytes = b""
        self.made = 0

    def append(self, padding: int) -> None:
        """One line more."""
        self.finish()
        line = f"{len(self.lines):05d} {'x' * padding}"
        self.lines.append(line)
        self.file.write(f"{line}\n".encode())

    def append_half(self, padding: int) -> None:
        """A line of which only half is written yet."""
        self.finish()
        line = f"{len(self.lines):05d} {'y' * padding}"
        self.lines.append(line)
        middle = len(line) // 2
        self.half = f"{line[middle:]}\n".encode()
        self.file.write(line[:middle].encode())

    def finish(self) -> None:
        """The other half."""
        self.file.write(self.half)
        self.half = b""

    def rename(self) -> None:
        """Rotation by rename: the program goes on in the renamed file until it opens a new one."""
        if self.writes_to == self.path:
            self.writes_to = self.path.rename(self.new_name("log"))

    def reopen(self) -> None:
        """The program opens its log by name."""
        self.finish()
        self.file.close()
        self.file = self.path.open("ab", buffering=0)
        self.writes_to = self.path

    def copy_truncate(self) -> None:
        """Rotation by copy: at a line's end, with nothing written between copy and truncation."""
        self.finish()
        if self.writes_to == self.path:
            shutil.copy(self.path, self.new_name("log"))
            self.file.truncate(0)

    def has_line(self, path: Path) -> bool:
        """Half a line by itself is nobody's copy that could be known."""
        return path.suffix == ".gz" or b"\n" in path.read_bytes()

    def wait(self, seconds: float) -> None:
        """Nothing is written for so long, at a line's end; told by the files' times."""
        self.finish()
        for path in self.folder.iterdir():
            moment = path.stat().st_mtime - seconds
            os.utime(path, (moment, moment))

    def new_name(self, suffix: str) -> Path:
        """A name that no file has; the numbers run backwards, so names are in no order."""
        self.made += 1
        return self.folder / f"access-{1000 - self.made}.{suffix}"

    def rest(self) -> list[Path]:
        """Files that the program does not write to."""
        return sorted(path for path in self.folder.iterdir() if path != self.writes_to)

    def compress(self, number: int) -> None:
        """One of the others is gzipped."""
        plain = [path for path in self.rest() if path.suffix == ".log" and path != self.path]
        if plain:
            compress(plain[number % len(plain)])

    def half_compress(self, number: int) -> None:
        """One of the others is being gzipped: the half of it is there."""
        plain = [path for path in self.rest() if path.suffix == ".log"]
        if plain:
            packed = gzip.compress(plain[number % len(plain)].read_bytes())
            self.new_name("gz").write_bytes(packed[: len(packed) // 2])

    def duplicate(self, number: int) -> None:
        """Any file that has a whole line is delivered again."""
        every = [path for path in sorted(self.folder.iterdir()) if self.has_line(path)]
        if every:
            source = every[number % len(every)]
            shutil.copy(source, self.new_name(source.suffix[1:]))

    def cut_duplicate(self, number: int) -> None:
        """A part of any file is delivered again: a line at least."""
        every = [path for path in sorted(self.folder.iterdir()) if path.suffix == ".log"]
        content = every[number % len(every)].read_bytes() if every else b""
        if b"\n" in content:
            at_least = content.index(b"\n") + 1
            self.new_name("log").write_bytes(content[: max(at_least, len(content) * 2 // 3)])


PADDINGS = st.sampled_from([0, 3, 40, 300, 1500])
NUMBERS = st.integers(0, 20)
STEPS = st.one_of(
    st.tuples(st.just("append"), PADDINGS),
    st.tuples(st.just("append"), PADDINGS),
    st.tuples(st.just("append_half"), PADDINGS),
    st.tuples(st.sampled_from(["finish", "rename", "reopen", "copy_truncate"])),
    st.tuples(
        st.sampled_from(["compress", "half_compress", "duplicate", "cut_duplicate"]), NUMBERS
    ),
    st.tuples(st.just("poll")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("poll"), NUMBERS),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=40))
def test_each_line_is_copied_once(steps: list[tuple[object, ...]]) -> None:
    """Appends, rotations, gzip, duplicates, looks and kills in any order."""
    with tempfile.TemporaryDirectory() as folder:
        follower = Follower(root=Path(folder), now=time.time())
        writer = Writer(follower.logs)
        for name, *values in steps:
            if name == "wait":
                writer.wait(2 * SETTLE_S)
            elif name == "poll":
                follower.poll(killed_after=int(str(values[0])) if values else 1000)
            else:
                getattr(writer, str(name))(*values)
        writer.finish()
        writer.file.close()
        follower.settle()
        assert Counter(follower.lines()) == Counter(writer.lines)
