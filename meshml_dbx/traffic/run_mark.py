"""How far a tracking store was read: what the lake remembers, so that no ingest reads all runs.

Goes in: the mark of the last read. Comes out: what to look at now. A store cannot be asked what has
changed: it knows when runs began and ended, by the clocks of whoever wrote that, and keeps no time
of a tag, a name or, by its API, of a deletion. So each read takes what began or ended lately, what
lasts, and a part of all others in the order of their start, until every run has been seen again.
"""

from dataclasses import dataclass, replace

CLOCKS_APART_US = 24 * 3_600_000_000
"""Runs are read again for so long after they began or ended: a clock may be a time zone off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """How far one store was read; moments are UTC microseconds.

    ``read_at`` is when it was last read. ``swept_to`` is the start of the run up to which the
    present round has got that looks at every run again, ``round_at`` when that round began, and
    ``whole_at`` when the last one began that came to its end: what was edited before is known.

    >>> RunMark(store="sqlite:///mlflow.db", read_at=90_000_000_000, whole_at=0).since
    3600000000
    """

    store: str
    read_at: int
    whole_at: int
    swept_to: int = 0
    round_at: int = 0

    @property
    def since(self) -> int:
        """From when on what began or ended is read again."""
        return max(self.read_at - CLOCKS_APART_US, 0)

    def later(self, *, read_at: int, swept_to: int | None) -> "RunMark":
        """The mark after a further read, which swept up to that start; None when to the end.

        >>> mark = RunMark(store="s", read_at=5, whole_at=5).later(read_at=9, swept_to=2)
        >>> mark.whole_at, mark.swept_to, mark.round_at
        (5, 2, 9)
        >>> mark.later(read_at=12, swept_to=None).whole_at
        9
        """
        begun = self.round_at if self.swept_to else read_at
        if swept_to is None:
            return replace(self, read_at=read_at, whole_at=begun, swept_to=0, round_at=0)
        return replace(self, read_at=read_at, swept_to=swept_to, round_at=begun)
