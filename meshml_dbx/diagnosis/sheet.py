"""The figures of a run that its page draws: who was waited for, in which stage, the worst calls.

Goes in: the evidence, and the culprits. Comes out: numpy columns and small frozen rows.
A path is virtual service (or a foreign host), route and target, the empty text where there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.breakdown import PARTS, break_down
from meshml_dbx.diagnosis.causes import ERROR_CAUSES
from meshml_dbx.diagnosis.diagnosis import Culprit
from meshml_dbx.diagnosis.groups import distinct_places
from meshml_dbx.diagnosis.table import Bools, CallTable, Ints, run_span, table_of
from meshml_dbx.diagnosis.tries import tried_before
from meshml_dbx.diagnosis.waits import Waits, covered_us, split_waits
from meshml_dbx.traffic.evidence import Evidence

Path = tuple[str, str, str]

FAILURES = ERROR_CAUSES - {"retry_storm"}
"""Causes that explain failed calls only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """The calls of a run with their waits and parts, and the path of each."""

    span: tuple[int, int]
    table: CallTable
    waits: Waits
    parts: Mapping[str, Ints]
    paths: tuple[Path, ...]
    row_path: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class PathWait:
    """How long the run waited on one path, and for which part of its calls."""

    path: Path
    wait_us: int
    calls: int
    parts_us: tuple[tuple[str, float], ...]
    """Part → the wait that falls to it; they sum to ``wait_us``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWait:
    """A stage's own time (None when the program did not say), its wait and its calls."""

    stage: str
    time_us: int | None
    wait_us: int
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """A call worth showing: its row, and which culprit it belongs to, counted from 0."""

    row: int
    culprit: int | None


def sheet_of(evidence: Evidence) -> Sheet:
    """The sheet of a run."""
    span = run_span(evidence)
    table = table_of(evidence.calls, evidence.in_flight, span=span)
    places = distinct_places(table)
    keys = [(one.service, one.route or "", one.target or "") for one in places.places]
    paths = tuple(dict.fromkeys(keys))
    number = {path: index for index, path in enumerate(paths)}
    of_place = np.array([number[key] for key in keys], dtype=np.int64)
    return Sheet(
        span=span,
        table=table,
        waits=split_waits(table.start, table.end),
        parts=break_down(table, evidence.attempts),
        paths=paths,
        row_path=of_place[places.row_place] if len(table) else places.row_place,
    )


def path_waits(sheet: Sheet) -> tuple[PathWait, ...]:
    """The paths with their waits in parts, the longest first."""
    share = sheet.waits.parts_us / np.maximum(_total_parts(sheet), 1)
    count = len(sheet.paths)
    calls = np.bincount(sheet.row_path, minlength=count)
    waits = sheet.waits.sums(sheet.row_path, count)
    parts = {
        name: np.bincount(sheet.row_path, weights=sheet.parts[name] * share, minlength=count)
        for name in PARTS
    }
    found = [
        PathWait(
            path=path,
            wait_us=int(waits[index]),
            calls=int(calls[index]),
            parts_us=tuple((name, float(parts[name][index])) for name in PARTS),
        )
        for index, path in enumerate(sheet.paths)
    ]
    return tuple(sorted(found, key=lambda one: (-one.wait_us, -one.calls, one.path)))


def _total_parts(sheet: Sheet) -> Ints:
    return np.asarray(np.sum([sheet.parts[name] for name in PARTS], axis=0, dtype=np.int64))


def stage_waits(sheet: Sheet, evidence: Evidence) -> tuple[StageWait, ...]:
    """The stages in the order in which they began, then those that only calls name."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for stage in sorted(evidence.stages, key=lambda one: one.start_time):
        end = sheet.span[1] if stage.end_time is None else stage.end_time
        spans.setdefault(stage.stage, []).append((stage.start_time, end))
    names = sheet.table.names["stage"]
    codes = sheet.table.codes["stage"]
    waits = sheet.waits.sums(codes, len(names))
    calls = np.bincount(codes[codes >= 0], minlength=len(names))
    number = {name: index for index, name in enumerate(names)}
    return tuple(
        StageWait(
            stage=name,
            time_us=_covered(spans[name]) if name in spans else None,
            wait_us=int(waits[number[name]]) if name in number else 0,
            calls=int(calls[number[name]]) if name in number else 0,
        )
        for name in dict.fromkeys([*spans, *names])
    )


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    starts, ends = (np.array(side, dtype=np.int64) for side in zip(*spans, strict=True))
    return covered_us(starts, np.maximum(starts, ends))


def culprit_rows(sheet: Sheet, culprit: Culprit) -> Bools:
    """The calls that a culprit is blamed for: the longest of those that its cause can explain."""
    path = (culprit.virtual_service, culprit.route or "", culprit.target or "")
    number = sheet.paths.index(path) if path in sheet.paths else -1
    candidates = (sheet.row_path == number) & _explained(sheet.table, culprit.cause)
    if set(culprit.patterns) <= set(sheet.table.names["pattern"]):
        candidates &= sheet.table.where("pattern", lambda name: name in culprit.patterns)
    chosen = np.zeros(len(sheet.table), dtype=np.bool_)
    chosen[_longest(sheet, candidates, culprit.calls)] = True
    return chosen


def _explained(table: CallTable, cause: str) -> Bools:
    if cause in FAILURES:
        return table.failed
    if cause == "retry_storm":
        chosen = table.retries > 0
        before = tried_before(table)
        chosen[before[before >= 0]] = True
        return chosen
    return np.ones(len(table), dtype=np.bool_) if cause == "stuck_call" else table.answered


def worst_rows(sheet: Sheet, culprits: Sequence[Bools], *, at_most: int) -> tuple[Worst, ...]:
    """The finished calls to show: each culprit's longest in equal number, then the longest of all.

    ``culprits`` holds the calls of each; the rows come out by culprit, then by duration.
    """
    finished = ~sheet.table.open
    quota = at_most // (len(culprits) + 1)
    chosen = dict.fromkeys(
        row for mask in culprits for row in _longest(sheet, mask & finished, quota)
    )
    chosen |= dict.fromkeys(_longest(sheet, finished, at_most))
    kept = list(chosen)[:at_most]
    worst = [Worst(row=row, culprit=_owner(row, culprits)) for row in kept]
    return tuple(
        sorted(
            worst,
            key=lambda one: (
                len(culprits) if one.culprit is None else one.culprit,
                -int(sheet.table.duration[one.row]),
            ),
        )
    )


def _owner(row: int, culprits: Sequence[Bools]) -> int | None:
    return next((number for number, mask in enumerate(culprits) if mask[row]), None)


def _longest(sheet: Sheet, mask: Bools, count: int) -> list[int]:
    rows = np.flatnonzero(mask)
    order = np.argsort(-sheet.table.duration[rows], kind="stable")
    return [int(row) for row in rows[order[: max(count, 0)]]]
