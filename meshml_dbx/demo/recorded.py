"""A recording of the real demo: both runs' log files, and what MLflow knew of them.

It travels in the wheel, so that the answer can be seen where nothing of the demo is installed.
Made by ``python -m meshml_dbx.demo.recorded FOLDER`` from the folder of a demo just played; only
the machine's name is taken out of it.
"""

import io
import json
import re
import shutil
import sys
import tarfile
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings, store_settings

ARCHIVE = "recording.tar.xz"
RUNS_FILE = "runs.json"
STATE = "recorded"
LIMIT = 300_000
HOST = re.compile(rb'"host":"[^"]*"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An unpacked recording: its folder, the run to ask about, and the one to compare with."""

    state: Path
    run_id: str
    baseline_id: str


def unpack_recording(folder: Path) -> Recording:
    """The recording that travels with the package, unpacked below ``folder``."""
    state = folder / STATE
    shutil.rmtree(state / "logs", ignore_errors=True)
    state.mkdir(parents=True, exist_ok=True)
    packed = files("meshml_dbx.demo").joinpath(ARCHIVE).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
        for entry in archive:
            path = state / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(entry).read())  # type: ignore[union-attr]  # files only
    healthy, faulty = json.loads((state / RUNS_FILE).read_text(encoding="utf-8"))
    store_settings(state, tracking=f"runs:{state / RUNS_FILE}")
    return Recording(state=state, run_id=faulty["run_id"], baseline_id=healthy["run_id"])


def pack_recording(folder: Path, archive: Path) -> int:
    """Pack a demo's closed log files and its two runs; the size in bytes."""
    runs = Session(read_settings({}, state=folder)).runs()
    contents = {RUNS_FILE: json.dumps([asdict(run) for run in runs], indent=1).encode()}
    for path in sorted((folder / "logs").glob("*/closed/*.jsonl")):
        contents[path.relative_to(folder).as_posix()] = HOST.sub(
            b'"host":"demo"', path.read_bytes()
        )
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            packed.addfile(entry, io.BytesIO(content))
    return archive.stat().st_size


def main() -> None:
    """Make the recording anew."""
    size = pack_recording(Path(sys.argv[1]), Path(__file__).with_name(ARCHIVE))
    print(f"{ARCHIVE}: {size} bytes of at most {LIMIT}")
    sys.exit(size > LIMIT)


if __name__ == "__main__":
    main()
