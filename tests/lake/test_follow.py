"""Following logs that others write: what a file is, what is told, what a kill leaves."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshml_dbx.errors import LakeError, LogFolderError
from meshml_dbx.lake.follow import next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.spool import remove_parts, spool
from tests.lake.following import SETTLE_S, Follower, compress

LONG = "x" * 1500


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """A follower of an empty folder."""
    return Follower(root=tmp_path, now=time.time())


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    """Append lines; the last one may have no end."""
    with path.open("a") as file:
        file.write("\n".join(lines) + end)
    return path


def age(path: Path) -> None:
    """Let a file be unchanged for long."""
    moment = time.time() - 10 * SETTLE_S
    os.utime(path, (moment, moment))


# --- lines ----------------------------------------------------------------------------------------


def test_only_whole_lines_are_read(follower: Follower) -> None:
    """The unfinished last line waits for its end."""
    log = write(follower.logs / "a.log", "one", "two", end="")
    follower.poll()
    assert follower.lines() == ["one"]
    write(log, " and more")
    follower.poll()
    assert follower.lines() == ["one", "two and more"]


def test_an_unfinished_line_is_read_once_nothing_follows(follower: Follower) -> None:
    """A file that was not changed for a while has ended, be it within a line."""
    age(write(follower.logs / "a.log", "one", "two", end=""))
    follower.poll()
    assert follower.lines() == ["one", "two"]
    assert follower.settle() == ()
    assert follower.lines() == ["one", "two"]


def test_nothing_is_opened_twice_for_nothing(follower: Follower) -> None:
    """A second look at files that did not change finds nothing and changes nothing."""
    age(write(follower.logs / "a.log", "one"))
    follower.poll()
    before = follower.saved
    found = next_segments(
        [follower.logs], FollowState.from_json(before), now=follower.now, settle_s=SETTLE_S
    )
    assert (found.segments, found.files, found.state.to_json()) == ((), 1, before)


def test_a_long_first_line_is_one(follower: Follower) -> None:
    """A line longer than all that tells files apart is read when it is whole."""
    log = write(follower.logs / "a.log", LONG, end="")
    follower.poll()
    assert follower.lines() == []
    write(log, "y", "next")
    follower.poll()
    assert follower.lines() == [LONG + "y", "next"]


# --- what a file is -------------------------------------------------------------------------------


def test_the_gzip_of_what_was_read_is_nothing_new(follower: Follower) -> None:
    """Offsets are of the content, and so are fingerprints; the suffix says nothing."""
    log = write(follower.logs / "a.log", *(f"line {number}" for number in range(500)))
    follower.poll()
    write(log, "last")
    compress(log).rename(follower.logs / "whatever")
    follower.poll()
    assert follower.lines() == [*(f"line {number}" for number in range(500)), "last"]


def test_gzip_members_follow_each_other(follower: Follower) -> None:
    """A file may have many, and zeros behind them."""
    members = [gzip.compress(f"line {number}\n".encode()) for number in range(50)]
    (follower.logs / "a.gz").write_bytes(b"".join(members) + bytes(512))
    assert follower.settle() == ()
    assert follower.lines() == [f"line {number}" for number in range(50)]


def test_logs_that_begin_alike_are_two(follower: Follower) -> None:
    """A new log with the same first line as the old one is read from its beginning."""
    log = write(follower.logs / "a.log", "# time path", "one")
    follower.poll()
    log.rename(follower.logs / "a.log.1")
    write(log, "# time path")
    follower.poll()
    assert follower.lines() == ["# time path", "one"]
    write(log, "two")
    assert follower.poll() == ()
    assert sorted(follower.lines()) == ["# time path", "# time path", "one", "two"]


def test_a_log_that_is_rotated_while_it_is_read(follower: Follower) -> None:
    """What was found under one name is copied under the next, into the same file."""
    log = write(follower.logs / "a.log", "one")
    state = FollowState()
    found = next_segments([follower.logs], state, now=follower.now, settle_s=SETTLE_S)
    log.rename(follower.logs / "a.log.1")
    assert spool(found.segments[0], follower.root / "spool") is None
    again = next_segments([follower.logs], found.state, now=follower.now, settle_s=SETTLE_S)
    assert [one.name for one in again.segments] == [found.segments[0].name]
    copy = spool(again.segments[0], follower.root / "spool")
    assert copy is not None
    assert copy.read_text() == "one\n"


def test_a_log_that_is_replaced_while_it_is_read(follower: Follower) -> None:
    """What stands under the name now is not copied for what stood there."""
    log = write(follower.logs / "a.log", "one", "two")
    found = next_segments([log], FollowState(), now=follower.now, settle_s=SETTLE_S)
    log.write_text("other\nlines\nthan these\n")
    assert spool(found.segments[0], follower.root / "spool") is None
    assert list((follower.root / "spool").iterdir()) == []


# --- what is told ---------------------------------------------------------------------------------


def test_a_file_that_shrank_is_told(follower: Follower) -> None:
    """The same log, shorter than it was read: nothing is read, and it is said once."""
    log = write(follower.logs / "a.log", *(f"line {number}" for number in range(500)))
    follower.poll()
    os.truncate(log, 2000)
    (notice,) = follower.poll()
    assert str(notice).startswith(f"{log}: has 2000 bytes, and was read up to byte 4390")
    assert (notice.reason, follower.settle()) == ("shrunk", ())


def test_a_file_that_was_rewritten_is_told(follower: Follower) -> None:
    """Its beginning is the same, its middle is not: going on would read from within a line."""
    log = write(follower.logs / "a.log", LONG, "one")
    follower.poll()
    log.write_text(f"{LONG}\nanother, longer\nand more\n")
    assert [notice.reason for notice in follower.poll()] == ["differs"]
    assert follower.lines() == [LONG, "one"]


def test_bytes_that_vanished_are_told(follower: Follower) -> None:
    """A log that was removed with something unread is missed, at the second look at the latest."""
    log = write(follower.logs / "a.log", "one", "unfinished", end="")
    follower.poll()
    log.unlink()
    notices = [*follower.poll(), *follower.poll(), *follower.poll()]
    assert [str(one) for one in notices] == [
        f"{log}: 10 bytes that were there at an earlier look are gone, and were not read [gone]"
    ]


def test_a_log_that_was_read_may_vanish(follower: Follower) -> None:
    """Nothing is missed then."""
    log = write(follower.logs / "a.log", "one")
    follower.poll()
    log.unlink()
    assert [*follower.poll(), *follower.poll()] == []


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_cut_off_gzip_is_told(follower: Follower, cut: float) -> None:
    """Its whole lines are read, its last one is not, and its damage is said once it has settled."""
    lines = [f"line {number} {os.urandom(9).hex()}" for number in range(5000)]
    packed = gzip.compress("".join(f"{line}\n" for line in lines).encode())
    file = follower.logs / "a.gz"
    file.write_bytes(packed[: int(len(packed) * cut)])
    assert follower.poll() == ()
    (notice,) = follower.settle()
    assert notice.reason == "damaged"
    read = follower.lines()
    assert read == lines[: len(read)]
    assert len(read) > len(lines) * cut * 0.9
    file.write_bytes(packed)
    assert follower.settle() == ()
    assert follower.lines() == lines


def test_a_damaged_gzip_is_told(follower: Follower) -> None:
    """What came before the damage is read."""
    lines = [f"line {number} {os.urandom(9).hex()}" for number in range(5000)]
    packed = bytearray(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    packed[len(packed) // 2] ^= 0xFF
    (follower.logs / "a.gz").write_bytes(packed)
    notices = follower.settle()
    assert {notice.reason for notice in notices} == {"damaged"}
    assert len(set(lines) & set(follower.lines())) > 2000


def test_zeros_where_a_log_was_truncated_are_told(follower: Follower) -> None:
    """A writer that does not append leaves a hole as long as all that it wrote before."""
    with (follower.logs / "a.log").open("wb") as file:
        file.seek(100_000)
        file.write(b"one\n")
    assert [notice.reason for notice in follower.poll()] == ["zeros"]
    assert follower.lines() == []


def test_a_folder_that_is_not_there() -> None:
    """It is named, with what may be named instead."""
    with pytest.raises(LogFolderError, match="/nowhere: No such file"):
        next_segments(["/nowhere"], FollowState(), now=0, settle_s=1)


def test_patterns_and_what_is_hidden(follower: Follower) -> None:
    """Folders are gone through, patterns may go down, hidden files are left alone."""
    deep = follower.logs / "pod" / "envoy"
    deep.mkdir(parents=True)
    (follower.logs / ".cache").mkdir()
    files = [follower.logs / "a.log", deep / "b.log", deep / ".c.log", follower.logs / ".cache/d"]
    for file in files:
        write(file, str(file))
    for patterns in ([follower.logs], [f"{follower.logs}/**/*.log"], files[:2]):
        found = next_segments(patterns, FollowState(), now=follower.now, settle_s=SETTLE_S)
        assert {segment.path for segment in found.segments} == set(files[:2])
        assert found.files == 2


# --- state ----------------------------------------------------------------------------------------


def test_the_state_holds_no_line(follower: Follower) -> None:
    """Digests and names only: a log may hold secrets."""
    write(follower.logs / "a.log", "token=s3cret", "another=s3cret")
    follower.poll()
    assert "s3cret" not in follower.saved
    state = FollowState.from_json(follower.saved)
    assert [stream.offset for stream in state.streams.values()] == [28]


def test_a_newer_state_is_refused() -> None:
    """It may say what this version does not understand."""
    with pytest.raises(LakeError, match="has version 2, this one knows 1"):
        FollowState.from_json('{"version": 2, "logs": []}')


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 1}', '{"version": 1, "streams": {"a": 1}}']
)
def test_a_broken_state_is_refused(text: str) -> None:
    """Reading everything again without a word would be worse."""
    with pytest.raises(LakeError, match="is not whole"):
        FollowState.from_json(text)


def test_what_was_not_seen_for_long_can_be_forgotten(follower: Follower) -> None:
    """The state of a folder whose old logs are removed need not grow."""
    log = write(follower.logs / "a.log", "one")
    follower.poll()
    log.unlink()
    follower.now += 3600
    write(follower.logs / "b.log", "two")
    follower.poll()
    state = FollowState.from_json(follower.saved).forget(before=follower.now - 60)
    assert [Path(stream.name).name for stream in state.streams.values()] == ["b.log"]


# --- copies ---------------------------------------------------------------------------------------

FULL = """
import resource, sys, time
from pathlib import Path
from meshml_dbx.lake.follow import next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.spool import spool
found = next_segments([sys.argv[1]], FollowState(), now=time.time(), settle_s=60)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
spool(found.segments[0], Path(sys.argv[2]))
"""


def test_no_room_for_a_copy(follower: Follower) -> None:
    """The error names the folder and what to do; nothing is left there, and later it goes on."""
    write(follower.logs / "a.log", *(f"line {number} {LONG}" for number in range(2000)))
    folder = follower.root / "spool"
    code = [sys.executable, "-c", FULL, str(follower.logs), str(folder)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert f"LogFolderError: cannot write to {folder}: File too large" in done.stderr
    assert "next: free space there" in done.stderr
    assert list(folder.iterdir()) == []
    follower.poll()
    assert len(follower.lines()) == 2000


def test_a_folder_that_cannot_be_made(follower: Follower) -> None:
    """A file is in its place: the error is ours."""
    write(follower.logs / "a.log", "one")
    found = next_segments([follower.logs], FollowState(), now=follower.now, settle_s=SETTLE_S)
    with pytest.raises(LogFolderError, match=r"cannot write to .*a\.log/spool"):
        spool(found.segments[0], follower.logs / "a.log" / "spool")


def test_copying_again_is_nothing(follower: Follower) -> None:
    """The same segment is the same file, which is not touched again."""
    write(follower.logs / "a.log", "one")
    found = next_segments([follower.logs], FollowState(), now=follower.now, settle_s=SETTLE_S)
    first, second = (spool(found.segments[0], follower.root / "spool") for _ in range(2))
    assert first == second
    state = found.state.advanced(found.segments[0])
    assert state.advanced(found.segments[0]) == state


def test_leftovers_of_a_kill_can_be_removed(follower: Follower) -> None:
    """Half a copy is never read, and is gone after a sweep."""
    write(follower.logs / "a.log", "one")
    follower.poll()
    folder = follower.root / "spool"
    (folder / ".half.log.0123abcd.part").write_text("on")
    remove_parts(folder)
    assert len(list(folder.iterdir())) == 1


MEMORY = """
import json, resource, sys, time
from pathlib import Path
from meshml_dbx.lake.follow import next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.spool import spool
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
found = next_segments([sys.argv[1]], FollowState(), now=time.time(), settle_s=60)
sizes = [spool(segment, Path(sys.argv[2])).stat().st_size for segment in found.segments]
print(json.dumps([sizes, peak() - before]))
"""


def test_memory_does_not_grow_with_a_file(follower: Follower) -> None:
    """A gzip of a fifth of a gigabyte costs a few megabytes, also when it is one line."""
    with gzip.open(follower.logs / "a.gz", "wb", compresslevel=1) as file:
        for number in range(200):
            file.write(bytes([65 + number % 26]) * (1 << 20))
        file.write(b"\n")
    code = [sys.executable, "-c", MEMORY, str(follower.logs), str(follower.root / "spool")]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    sizes, grown_mb = json.loads(done.stdout)
    assert sizes == [(200 << 20) + 1]
    assert grown_mb < 30
