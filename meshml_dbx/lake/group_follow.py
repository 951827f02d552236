"""What is new in a CloudWatch log group, as closed files of lines, each event in one of them.

Goes in: a client, a group, where its state and its files lie, and how far back to begin. Comes out:
files, and a state that knows where to go on. An event's message is its line; log group and stream
are not in it.

**Once, also after a kill.** A file is written under a name that is never read; then the state notes
the name that it will have and what to remember from then on; then the file gets that name, and the
state moves on. Whoever comes after a kill sees whether the file has its name: if so, the state
moves on, else the same events are read again. What lies longer back than ``SLICE_MS`` is read span
by span, each remembered.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from meshml_dbx.lake.cloudwatch import LogQuery, Page, read_new, read_pages, time_slices
from meshml_dbx.lake.firehose import Batch
from meshml_dbx.lake.log_event import clean_text
from meshml_dbx.lake.places import GroupPlace, place_digest
from meshml_dbx.lake.spool import finish, new_file, write_all
from meshml_dbx.lake.state_file import load_state, save_state
from meshml_dbx.lake.telling import Telling
from meshml_dbx.traffic.access_log import time_text

HOUR_MS = 3_600_000
SLICE_MS = 6 * HOUR_MS
FIRST_MS = HOUR_MS
"""How far back the first reading begins where nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """How far a group was read; times are milliseconds since 1970.

    ``gaps`` are spans of event time that are still to be read, ``tail`` is the state of
    ``cloudwatch.read_new`` for all from ``tail_from_ms`` on. Of all events since ``from_ms`` each
    was read or is in one of these.

    >>> GroupState().begun
    False
    """

    from_ms: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    tail_from_ms: int = 0
    tail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether it says where to read."""
        return self.from_ms > 0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "GroupState":
        """As it was saved."""
        gaps = tuple((int(start), int(end)) for start, end in saved.get("gaps", ()))
        names = ("from_ms", "tail_from_ms", "tail")
        return cls(gaps=gaps, **{name: saved[name] for name in names if name in saved})

    def since(self, since_ms: int | None, now_ms: int) -> "GroupState":
        """The state that has all from then on in view; None for what was in view before.

        >>> GroupState().since(None, 10 * HOUR_MS).from_ms == 9 * HOUR_MS
        True
        """
        if not self.begun:
            start = now_ms - FIRST_MS if since_ms is None else min(since_ms, now_ms)
            tail_from = max(start, now_ms - SLICE_MS)
            gaps = ((start, tail_from),) if start < tail_from else ()
            return GroupState(from_ms=start, gaps=gaps, tail_from_ms=tail_from)
        if since_ms is None or since_ms >= self.from_ms:
            return self
        return replace(self, from_ms=since_ms, gaps=((since_ms, self.from_ms), *self.gaps))

    def after(self, start_ms: int, end_ms: int) -> "GroupState":
        """The state once the begin of a gap was read."""
        left = ((end_ms if gap[0] == start_ms else gap[0], gap[1]) for gap in self.gaps)
        return replace(self, gaps=tuple(gap for gap in left if gap[0] < gap[1]))


def follow_group(
    client: Any,
    place: GroupPlace,
    *,
    state_file: Path,
    closed: Path,
    since_ms: int | None,
    now_ms: int,
    say: Callable[[str], None],
) -> tuple[Path, ...]:
    """The files that now hold what is new in the group; hold the source's lock meanwhile.

    Raises:
        LakeError: the group does not exist, access is denied, credentials are missing, requests
            were throttled for too long, or the state is not whole.
        LogFolderError: the folder cannot be written to.
    """
    follower = _Follower(client, place, state_file, closed, say)
    follower.begin(since_ms, now_ms)
    follower.read_gaps()
    follower.read_tail(now_ms)
    return tuple(follower.files)


class _Follower:
    def __init__(
        self,
        client: Any,
        place: GroupPlace,
        state_file: Path,
        closed: Path,
        say: Callable[[str], None],
    ) -> None:
        self.files: list[Path] = []
        self._client = client
        self._place = place
        self._state_file = state_file
        self._closed = closed
        self._telling = Telling(say)
        self._events = 0
        self._state = GroupState()

    def begin(self, since_ms: int | None, now_ms: int) -> None:
        """Go on from what was remembered, a file that a kill left without a name among it."""
        saved = load_state(self._state_file)
        pending = saved.get("pending")
        if pending and (self._closed / pending["name"]).is_file():
            self.files.append(self._closed / pending["name"])
            saved = pending["next"]
        self._state = GroupState.of(saved).since(since_ms, now_ms)
        self._move_on(self._state)

    def read_gaps(self) -> None:
        for start, end in self._state.gaps:
            whole = self._query(start, end)
            for query in time_slices(whole, SLICE_MS):
                following = self._state.after(query.start_ms, query.end_ms)
                with new_file(self._target()) as part:
                    if self._copy(read_pages(self._client, query), part):
                        self._name(part, following)
                self._move_on(following)

    def read_tail(self, now_ms: int) -> None:
        query = self._query(self._state.tail_from_ms, 0)
        reading = read_new(self._client, query, self._state.tail, now_ms=now_ms)
        with new_file(self._target()) as part:
            has_lines = self._copy(reading, part)
            following = replace(self._state, tail=reading.state)
            if has_lines:
                self._name(part, following)
        self._move_on(following)

    def _query(self, start_ms: int, end_ms: int) -> LogQuery:
        group, prefix = self._place.group, self._place.stream_prefix
        return LogQuery(log_group=group, stream_prefix=prefix, start_ms=start_ms, end_ms=end_ms)

    def _target(self) -> Path:
        """A name that was never given: were it reused, the lake would take the file for known."""
        digest = place_digest(self._place.group, self._place.stream_prefix)
        return self._closed / f"cloudwatch-{digest}-{secrets.token_hex(8)}.log"

    def _copy(self, pages: Iterable[Page], part: BinaryIO) -> bool:
        """Whether there were lines."""
        has_lines = False
        for page in pages:
            messages = [clean_text(event["message"]) for event in page]
            lines = Batch(None, None, messages, None, None).lines()
            write_all(part, lines)
            has_lines = has_lines or bool(lines)
            self._events += len(page)
            newest = time_text(page[-1]["timestamp"] * 1000)
            self._telling.tell(f"{self._place}: {self._events:,} events read, up to {newest}")
        return has_lines

    def _name(self, part: BinaryIO, following: GroupState) -> None:
        """Give the file its name, so that a kill before or after leaves a state that knows."""
        target = self._target()
        pending = {"name": target.name, "next": asdict(following)}
        save_state(self._state_file, {**asdict(self._state), "pending": pending})
        finish(part, target)
        self.files.append(target)

    def _move_on(self, state: GroupState) -> None:
        save_state(self._state_file, asdict(state))
        self._state = state
