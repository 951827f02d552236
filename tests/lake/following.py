"""A follower for tests: it keeps its state as JSON, and may be killed between any two steps."""

import gzip
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from meshml_dbx.lake.follow import Notice, next_segments
from meshml_dbx.lake.follow_state import FollowState
from meshml_dbx.lake.spool import spool

SETTLE_S = 60.0


@dataclass(slots=True, kw_only=True)
class Follower:
    """Follows all logs beneath ``root``/logs into ``root``/spool, by the protocol of ``follow``."""

    root: Path
    now: float
    saved: str = field(default_factory=FollowState().to_json)

    def __post_init__(self) -> None:
        self.logs.mkdir(exist_ok=True)

    @property
    def logs(self) -> Path:
        """Where the writers write."""
        return self.root / "logs"

    def poll(self, *, killed_after: int = 1000) -> tuple[Notice, ...]:
        """One look and what it finds, copied; a kill comes after so many steps."""
        state = FollowState.from_json(self.saved)
        found = next_segments([self.logs], state, now=self.now, settle_s=SETTLE_S)
        steps = iter(range(killed_after))
        state = found.state
        if next(steps, None) is None:
            return found.notices
        self.saved = state.to_json()
        for segment in found.segments:
            if next(steps, None) is None:
                return found.notices
            if spool(segment, self.root / "spool") is None:
                continue
            if next(steps, None) is None:
                return found.notices
            state = state.advanced(segment)
            self.saved = state.to_json()
        return found.notices

    def settle(self) -> tuple[Notice, ...]:
        """Look until there is nothing new, once all files have settled."""
        self.now += 10 * SETTLE_S
        told: list[Notice] = []
        while True:
            before = self.saved
            told += self.poll()
            if self.saved == before:
                return tuple(told)

    def lines(self) -> list[str]:
        """All that was copied, in the order of its names."""
        copies = sorted((self.root / "spool").glob("*"))
        return [line for copy in copies for line in copy.read_text().splitlines()]


def compress(path: Path) -> Path:
    """What gzip does to a file."""
    packed = path.with_name(path.name + ".gz")
    with path.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    path.unlink()
    return packed
