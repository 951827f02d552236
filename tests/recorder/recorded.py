"""A recording in a test's own folder, and its lines as they can be read.

Goes in: a folder, and what else the recorder's plan shall hold. Comes out: decoded lines by kind.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshml_dbx.recorder import RecorderPlan, Recording, start_recording

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording has written so far."""

    recording: Recording

    def text(self) -> str:
        """All files, oldest lines first."""
        self.recording.flush()
        folder = self.recording.plan.logs
        files = sorted(folder.rglob("closed/*.jsonl")) + sorted(folder.rglob("live/*.jsonl"))
        return "".join(file.read_text() for file in files)

    def lines(self) -> list[Line]:
        """Every line, in the order of writing."""
        return [json.loads(line) for line in self.text().splitlines() if line]

    def ends(self) -> list[Line]:
        """The calls that are over, in the order of their ends."""
        return self._calls("DownstreamEnd")

    def starts(self) -> list[Line]:
        """The calls that have begun."""
        return self._calls("DownstreamStart")

    def attempts(self) -> list[Line]:
        """The tries of calls that had several."""
        return [line for line in self.lines() if line["_record"] == "attempt"]

    def end(self) -> Line:
        """The one call that is over."""
        (line,) = self.ends()
        return line

    def values(self, *keys: str) -> list[tuple[Any, ...]]:
        """Some fields of each call that is over."""
        return [tuple(line[key] for key in keys) for line in self.ends()]

    def _calls(self, kind: str) -> list[Line]:
        return [
            line for line in self.lines() if line["_record"] == "call" and line["_type"] == kind
        ]


@contextmanager
def recorded(folder: Path, **plan: Any) -> Iterator[Recorded]:
    """Record what this process calls as long as the block lasts."""
    recording = start_recording(
        RecorderPlan(
            logs=folder / "logs", run=folder / "run", client="train", process_id="p1", **plan
        )
    )
    try:
        yield Recorded(recording)
    finally:
        recording.stop()
