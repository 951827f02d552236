"""Reading lines: whole ones, each once, while files grow, are renamed and are damaged."""

import threading
import time
from pathlib import Path

import pytest

from meshml_dbx.errors import LogFolderError
from meshml_dbx.recording.collect import read_records
from meshml_dbx.recording.read import FolderReader, list_sidecars
from tests.log_writing import SECOND, T0, Writer


def numbers_read(writer: Writer) -> list[int]:
    """The numbers of the finished calls in a writer's folder."""
    rows = read_records(writer.folder).rows
    return sorted((row.start_time - T0) // 1000 for row in rows)


def test_a_half_line_at_the_end_of_a_live_file_is_not_bad(tmp_path: Path) -> None:
    """What a live file ends with may still be being written: it is neither read nor bad."""
    writer = Writer(logs=tmp_path)
    writer.live(writer.call(1), writer.call(2)[:-30])
    assert numbers_read(writer) == [1]
    assert read_records(writer.folder).bad_lines == []


def test_a_half_line_at_the_end_of_a_closed_file_is_bad_and_has_its_place(tmp_path: Path) -> None:
    """A closed file never grows, so its half line is reported with file and byte offset."""
    writer = Writer(logs=tmp_path)
    first = writer.call(1)
    path = writer.close(first, writer.call(2)[:-30])
    (bad,) = read_records(writer.folder).bad_lines
    assert (bad.file, bad.offset, bad.reason) == (path, len(first), "not JSON")
    assert numbers_read(writer) == [1]


def test_a_whole_line_without_its_line_end_counts_in_a_closed_file(tmp_path: Path) -> None:
    """A last line that is complete but for the line's end is a record."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1), writer.call(2)[:-1])
    assert numbers_read(writer) == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\x00\xff\x13noise\n", "not JSON"),
        (b"[1, 2]\n", "no record of ours"),
        (b'{"_record":"weather"}\n', "no record of ours"),
        (b'{"_record":"call"}\n', "no record of ours"),
    ],
)
def test_noise_between_lines_is_reported_and_harms_no_other(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    """A line that is no record of ours is bad by itself; its neighbours are read."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1), line, writer.call(2))
    (bad,) = read_records(writer.folder).bad_lines
    assert (bad.offset, bad.reason) == (len(writer.call(1)), reason)
    assert numbers_read(writer) == [1, 2]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"code": "teapot"}, "not a number: 'teapot'"),
        ({"start_time": "yesterday"}, "not a time: 'yesterday'"),
        ({"start_time": None}, "not a time: None"),
        ({"_type": "DownstreamNap"}, "unknown type of call line: 'DownstreamNap'"),
    ],
)
def test_a_field_that_cannot_be_read_makes_the_line_bad(
    tmp_path: Path, wrong: dict[str, object], reason: str
) -> None:
    """The reason names what was found where a number, a time or a type was to be."""
    writer = Writer(logs=tmp_path)
    writer.close(writer.call(1), writer.call(2, **wrong))
    (bad,) = read_records(writer.folder).bad_lines
    assert bad.reason == reason
    assert numbers_read(writer) == [1]


def test_lines_longer_than_a_block_and_blank_lines_are_fine(tmp_path: Path) -> None:
    """A mesh document may be longer than what is read at once; blank lines are nothing."""
    writer = Writer(logs=tmp_path)
    writer.close(b"\n", writer.mesh("v1", "x" * (9 << 20)), b"  \n", writer.call(1))
    records = read_records(writer.folder)
    assert [len(str(values["document"])) for values in records.meshes] == [9 << 20]
    assert (len(records.rows), records.bad_lines) == (1, [])


def test_a_file_closed_after_it_was_listed_is_read_on_and_not_twice(tmp_path: Path) -> None:
    """Renamed, grown and replaced between two looks: every line is taken exactly once."""
    writer = Writer(logs=tmp_path)
    live = writer.live(writer.call(1))
    lines: list[bytes] = []
    for listing, (_, blocks) in enumerate(FolderReader(folder=writer.folder).files()):
        lines.extend(line for block in blocks for _, line in block.lines())
        if listing == 0:
            writer.live(writer.call(2))
            live.rename(writer.close(at=T0))
            writer.live(writer.call(3))
    assert [line + b"\n" for line in lines] == [writer.call(n) for n in (1, 2, 3)]


def test_readers_beside_a_writer_that_closes_files_see_each_call_once(tmp_path: Path) -> None:
    """Whatever the moment, a reader finds every call that was finished before it began to read."""
    writer = Writer(logs=tmp_path)
    written = 0

    def write_and_close() -> None:
        nonlocal written
        for number in range(600):
            live = writer.live(writer.start(number), writer.call(number))
            written = number + 1
            if number % 7 == 6:
                live.rename(writer.close(at=T0 + number * SECOND))
                time.sleep(0.001)

    thread = threading.Thread(target=write_and_close)
    thread.start()
    while thread.is_alive():
        before = written
        found = numbers_read(writer)
        assert found[:before] == list(range(before))
        assert len(found) == len(set(found))
    thread.join()
    assert numbers_read(writer) == list(range(600))


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_log_folder_without_logs_says_how_to_record(tmp_path: Path, state: str) -> None:
    """Missing and empty folders are one clear error with the command that fills them."""
    logs = tmp_path / "logs"
    if state == "empty":
        logs.mkdir()
    with pytest.raises(LogFolderError, match="meshml run") as caught:
        list_sidecars(logs)
    assert str(logs) in str(caught.value)
