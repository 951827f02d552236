"""The files of a recorder: appended to, finished, shipped; on disks that fail, full and lost."""

import os
import shutil
import time
from pathlib import Path

import pytest

from meshml_dbx.errors import LogFolderError
from meshml_dbx.recorder.folder import LogKeeper
from tests.recorder.recorder_lab import plan_in

LINE = b'{"a":1}\n'


def finished(keeper: LogKeeper) -> list[Path]:
    """The finished files of an appending keeper, in order."""
    return sorted(keeper.logs.closed.iterdir(), key=lambda path: int(path.stem.split("-")[-1]))


def test_a_file_is_finished_by_size(tmp_path: Path) -> None:
    """And the next line begins another."""
    keeper = LogKeeper(plan_in(tmp_path), largest=100)
    for _ in range(15):
        keeper.write(LINE)
        keeper.keep()
    keeper.finish()
    assert [path.stat().st_size for path in finished(keeper)] == [104, 16]


def test_a_file_is_finished_by_age(tmp_path: Path) -> None:
    """Counted from its first line; an empty one is not finished."""
    keeper = LogKeeper(plan_in(tmp_path), longest_s=0.2)
    time.sleep(0.25)
    keeper.keep()
    keeper.write(LINE)
    keeper.keep()
    assert not keeper.logs.closed.exists() or finished(keeper) == []
    time.sleep(0.25)
    keeper.keep()
    keeper.finish()
    assert [path.read_bytes() for path in finished(keeper)] == [LINE]


def test_a_finished_file_never_changes(tmp_path: Path) -> None:
    """Neither its name, its bytes nor its time."""
    keeper = LogKeeper(plan_in(tmp_path))
    seen: dict[str, tuple[int, int]] = {}
    for _ in range(5):
        keeper.write(LINE)
        keeper.close_files()
        found = {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in finished(keeper)}
        assert seen.items() <= found.items()
        seen = found
    keeper.finish()
    assert len(seen) == 5


@pytest.mark.parametrize("place", ["file/logs", "/proc/meshml", "/sys/meshml"])
def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path, place: str) -> None:
    """With its name and what to do."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LogFolderError) as caught:
        LogKeeper(plan_in(tmp_path / place))
    assert place.split("/")[1] in caught.value.message
    assert caught.value.advice


@pytest.mark.parametrize("place", ["file", "/proc/meshml", "/sys/meshml"])
def test_a_volume_that_is_missing_is_said_at_once(tmp_path: Path, place: str) -> None:
    """And no scratch folder is left behind."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LogFolderError, match="cannot write") as caught:
        LogKeeper(plan_in(tmp_path / place, is_volume=True))
    assert "volume" in caught.value.advice


def shipped(state: Path) -> dict[str, tuple[int, int, int]]:
    """What a reader of the volume sees: size, time and inode by name, without hidden files."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino)
        for path in (state / "volume").rglob("*.jsonl")
        if not path.name.startswith(".")
    }


def test_a_volume_gets_whole_files_that_never_change(tmp_path: Path) -> None:
    """Each appears under its name with its last byte; nothing live, nothing hidden stays."""
    keeper = LogKeeper(plan_in(tmp_path, is_volume=True), longest_s=0.1)
    seen: dict[str, tuple[int, int, int]] = {}
    for _ in range(30):
        keeper.write(LINE)
        keeper.keep()
        found = shipped(tmp_path)
        assert seen.items() <= found.items()
        seen = found
        time.sleep(0.02)
    keeper.finish()
    files = [path for path in (tmp_path / "volume").rglob("*") if path.is_file()]
    assert b"".join(path.read_bytes() for path in files) == LINE * 30
    assert {path.parent.name for path in files} == {"closed"}
    assert all(path.name in shipped(tmp_path) for path in files)
    assert sorted(int(path.stem.split("-")[-1]) for path in files) == [*range(1, len(files) + 1)]
    assert len(files) > 3
    assert keeper.scratch is not None
    assert not keeper.scratch.exists()


def test_a_volume_that_comes_back_gets_everything(tmp_path: Path) -> None:
    """What it did not take is kept, and tried again though nothing more is written."""
    keeper = LogKeeper(plan_in(tmp_path, is_volume=True))
    keeper.write(LINE)
    keeper.close_files()
    volume, away = tmp_path / "volume", tmp_path / "away"
    volume.rename(away)
    volume.write_text("not a folder")
    for _ in range(2):
        keeper.write(LINE)
        with pytest.raises(OSError, match="Not a directory"):
            keeper.close_files()
    volume.unlink()
    away.rename(volume)
    began = time.monotonic()
    while len(shipped(tmp_path)) < 3:
        keeper.keep()
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    keeper.finish()
    assert sum(size for size, _, _ in shipped(tmp_path).values()) == 3 * len(LINE)


def test_a_volume_that_stays_away_leaves_the_files_where_they_are(tmp_path: Path) -> None:
    """The error says from where to where they can be copied."""
    keeper = LogKeeper(plan_in(tmp_path, is_volume=True))
    keeper.write(LINE)
    (tmp_path / "volume").rename(tmp_path / "away")
    (tmp_path / "volume").write_text("not a folder")
    with pytest.raises(LogFolderError) as caught:
        keeper.finish()
    (kept,) = keeper.logs.closed.iterdir()
    assert kept.read_bytes() == LINE
    assert str(kept.parent) in caught.value.advice
    assert str(tmp_path / "volume") in caught.value.advice
    assert keeper.scratch is not None
    shutil.rmtree(keeper.scratch)


def test_lines_in_a_folder_that_was_removed_are_an_error(tmp_path: Path) -> None:
    """Not a silence: the file is missed when it is finished, and the next cannot be made."""
    keeper = LogKeeper(plan_in(tmp_path))
    keeper.write(LINE)
    keeper.logs.access.unlink()
    with pytest.raises(FileNotFoundError, match="removed"):
        keeper.close_files()
    keeper.logs.live.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        keeper.write(LINE)
    assert keeper.written == len(LINE)


def test_an_abandoned_keeper_leaves_everything_to_its_owner(tmp_path: Path) -> None:
    """A forked child lets go; the run folder, the files and the locks are the parent's."""
    keeper = LogKeeper(plan_in(tmp_path))
    keeper.write(LINE)
    child = os.fork()
    if child == 0:
        keeper.abandon()
        del keeper
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "run" / keeper.sidecar_id / "sidecar.json").exists()
    keeper.write(LINE)
    keeper.finish()
    assert [path.read_bytes() for path in finished(keeper)] == [LINE * 2]
