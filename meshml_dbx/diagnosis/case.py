"""One run laid out for the rules: its calls, their waits and parts, and what each is compared with.

Goes in: the evidence, and the profiles of the runs it is compared with. Comes out: a case, which
the rules only read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.baseline import Profile, Reference, profiles_of, references
from meshml_dbx.diagnosis.breakdown import break_down
from meshml_dbx.diagnosis.groups import Distinct, Fold, Groups, Place, distinct_places, group_calls
from meshml_dbx.diagnosis.identity import Refusals, match_refusals
from meshml_dbx.diagnosis.policies import Declared
from meshml_dbx.diagnosis.table import (
    Bools,
    CallTable,
    Ints,
    last_seen,
    run_span,
    seen_by_client,
    table_of,
)
from meshml_dbx.diagnosis.tries import tried_before
from meshml_dbx.diagnosis.waits import IdleClock, Waits, split_waits
from meshml_dbx.traffic.evidence import Evidence, RunCalls

MATTERS_SHARE = 0.05
MATTERS_US = 200_000
"""A cause matters when it cost this share of the run, and at least this much."""

MOST_COMMON_SLOWDOWN = 3.0
"""If everything else got slower too, that much of a slowdown is the machine's, not one place's."""

_TIMEOUT_FLAGS = ("UT", "SI", "DT", "UMSDR")
_CONNECT_FLAGS = ("UF", "UH", "UO", "NC", "DF")
_FEWEST_OTHERS, _MANY_TARGETS = 2, 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marks:
    """What each call's codes and flags say of it, looked up once for all rules.

    ``failed``: it ended without an answer, with a 5xx or without a route. ``answered``: its
    duration says how fast the upstream is, also when the caller gave up. ``timed_out``: a time
    limit ended it; ``cut_by_listener``: the called node's. ``tried_again``: it failed, and a layer
    above the recorded library made another call for the same.
    """

    failed: Bools
    answered: Bools
    unconnected: Bools
    unrouted: Bools
    timed_out: Bools
    cut_by_listener: Bools
    tried_again: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """What the rules read of one run."""

    evidence: Evidence
    span: tuple[int, int]
    table: CallTable
    waits: Waits
    idle: IdleClock
    parts: Mapping[str, Ints]
    groups: Groups
    own: Mapping[Place, Profile]
    references: Mapping[Place, Reference]
    common: Mapping[Place, float]
    refusals: Refusals
    declared: Declared
    marks: Marks
    pauses: Ints
    target_waits: Mapping[tuple[str, str | None, str | None], int]

    @property
    def duration_us(self) -> int:
        """How long the run lasted, or has lasted."""
        return self.span[1] - self.span[0]

    @property
    def matters_us(self) -> float:
        """The least cost that matters for this run."""
        return max(MATTERS_SHARE * self.duration_us, MATTERS_US)

    @property
    def broke_off(self) -> bool:
        """Whether the run ended in failure."""
        return self.evidence.run.status in {"FAILED", "KILLED"}

    @property
    def seen_by_client(self) -> bool:
        """Whether no proxy saw any of the calls."""
        return seen_by_client(self.evidence)

    @property
    def idle_us(self) -> int:
        """The time in which no call was in flight and the program did not use its CPU."""
        cpu = round((self.evidence.cpu_s or 0.0) * 1e6)
        return max(self.duration_us - self.waits.total_us - cpu, 0)

    def stages(self, rows: Ints) -> tuple[str, ...]:
        """The stages that some calls were made in, those with the longest wait first."""
        names, codes = self.table.names["stage"], self.table.codes["stage"][rows]
        waits = np.zeros(len(names) + 1, dtype=np.int64)
        np.add.at(waits, codes, self.waits.parts_us[rows])
        present = set(np.unique(codes).tolist()) - {-1}
        return tuple(names[code] for code in sorted(present, key=lambda code: (-waits[code], code)))

    def version(self, rows: Ints) -> str | None:
        """The mesh version by which some calls were routed."""
        codes = self.table.codes["mesh_version"][rows]
        known = codes[codes >= 0]
        return self.table.names["mesh_version"][int(known[-1])] if len(known) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sorted:
    """A run's evidence as a table, and the places that it called, before folding."""

    evidence: Evidence
    span: tuple[int, int]
    table: CallTable
    distinct: Distinct


def sort_out(evidence: Evidence) -> Sorted:
    """The table and places of a run."""
    span = run_span(evidence)
    table = table_of(evidence.calls, evidence.in_flight, span=span)
    return Sorted(evidence=evidence, span=span, table=table, distinct=distinct_places(table))


def sort_out_past(past: RunCalls) -> Sorted:
    """The table and places of a run of the past, of which only the calls are known."""
    read_at = past.run.end_time if past.run.end_time is not None else last_seen(past.calls)
    return sort_out(Evidence(run=past.run, read_at=read_at, calls=past.calls))


def lay_out(
    run: Sorted,
    folds: Mapping[str, Fold],
    *,
    past: Sequence[Mapping[Place, Profile]] = (),
    name: str = "",
) -> Case:
    """The case of a run, compared with the profiles of other runs."""
    evidence, span, table = run.evidence, run.span, run.table
    groups = group_calls(run.distinct, folds)
    waits, idle = split_waits(table.start, table.end), IdleClock.of(table.start, table.end)
    own = profiles_of(table, groups)
    found = references(own, past, name)
    before = tried_before(table)
    return Case(
        evidence=evidence,
        span=span,
        table=table,
        waits=waits,
        idle=idle,
        parts=break_down(table, evidence.attempts),
        groups=groups,
        own=own,
        references=found,
        common=_common_slowdown(own, found),
        refusals=match_refusals(table, evidence.connections),
        declared=Declared(documents=evidence.mesh_documents),
        marks=_marks(table, before),
        pauses=_idle_only(_pauses(table, groups, before, idle), span, waits, evidence.cpu_s),
        target_waits=_target_waits(groups, waits),
    )


def _marks(table: CallTable, before: Ints) -> Marks:
    tried_again = np.zeros(len(table), dtype=np.bool_)
    tried_again[before[before >= 0]] = True
    listener = table.flagged(*_TIMEOUT_FLAGS, column="origin_flags")
    return Marks(
        failed=table.failed,
        answered=table.answered,
        unconnected=table.failed & table.flagged(*_CONNECT_FLAGS),
        unrouted=table.unrouted,
        timed_out=table.flagged(*_TIMEOUT_FLAGS) | listener,
        cut_by_listener=listener,
        tried_again=tried_again,
    )


def _target_waits(groups: Groups, waits: Waits) -> dict[tuple[str, str | None, str | None], int]:
    """The wait of each target of a route, all patterns together."""
    summed: dict[tuple[str, str | None, str | None], int] = {}
    sums = waits.sums(groups.row_group, len(groups)).tolist()
    for place, wait in zip(groups.places, sums, strict=True):
        key = (place.service, place.route, place.target)
        summed[key] = summed.get(key, 0) + wait
    return summed


def _common_slowdown(
    own: Mapping[Place, Profile], found: Mapping[Place, Reference]
) -> dict[Place, float]:
    """By how much the other targets of the run got slower than in the baseline, from 1 up."""
    ratios = {
        place: own[place].p50_us / reference.profile.p50_us
        for place, reference in found.items()
        if reference.kind == "baseline" and reference.profile.p50_us and own[place].answered
    }
    by_target: dict[tuple[str, str | None], list[float]] = {}
    for place, ratio in ratios.items():
        by_target.setdefault((place.service, place.target), []).append(ratio)
    typical = {target: float(np.median(listed)) for target, listed in by_target.items()}
    return {place: _middle_of_others(typical, (place.service, place.target)) for place in own}


def _middle_of_others(
    typical: Mapping[tuple[str, str | None], float], own: tuple[str, str | None]
) -> float:
    many = len(typical) > _MANY_TARGETS  # then leaving one out changes nothing
    others = [ratio for target, ratio in typical.items() if many or target != own]
    middle = float(np.median(others)) if len(others) >= _FEWEST_OTHERS else 1.0
    return min(max(middle, 1.0), MOST_COMMON_SLOWDOWN)


def _pauses(table: CallTable, groups: Groups, before: Ints, idle: IdleClock) -> Ints:
    """The time after each failed call in which nothing was in flight, before it was tried again.

    A program that sleeps between its own tries does not wait on the mesh; the failure still costs
    that time. Pauses of several failures at the same time are split among them.
    """
    until = _tried_again_at(table, groups, before)
    rows = np.flatnonzero(until > table.end)
    pauses = np.zeros(len(table), dtype=np.int64)
    pauses[rows] = split_waits(idle.at(table.end[rows]), idle.at(until[rows])).parts_us
    return pauses


def _tried_again_at(table: CallTable, groups: Groups, before: Ints) -> Ints:
    """When what failed was tried again: by the recorder's word, else by the next call of its kind.

    The end of a call that was not tried again is its own.
    """
    until = table.end.copy()
    order = np.argsort(table.start, kind="stable")
    tried: dict[tuple[str, str], int] = {}
    for place in groups.places:
        tried.setdefault((place.service, place.pattern), len(tried))
    thing = np.array([tried[one.service, one.pattern] for one in groups.places], dtype=np.int64)
    what = thing[groups.row_group[order]] if len(order) else order
    again = (what[1:] == what[:-1]) & table.failed[order][:-1]
    until[order[:-1][again]] = table.start[order][1:][again]
    later = order[before[order] >= 0][::-1]  # backwards: of several, the first try counts
    until[before[later]] = table.start[later]
    return until


def _idle_only(pauses: Ints, span: tuple[int, int], waits: Waits, cpu_s: float | None) -> Ints:
    """The pauses without what the program used its CPU for, which no failure cost it."""
    total = int(pauses.sum())
    idle = span[1] - span[0] - waits.total_us - round((cpu_s or 0.0) * 1e6)
    return pauses if total <= idle else pauses * max(idle, 0) // max(total, 1)
