"""From evidence to diagnosis: the road through this room, each step a function of the one before.

Evidence → tables → groups, waits, parts → references → claims → suspects → verdict → Diagnosis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from meshml_dbx.diagnosis.baseline import Profile, quantile
from meshml_dbx.diagnosis.breakdown import PARTS
from meshml_dbx.diagnosis.case import Case, lay_out, sort_out, sort_out_past
from meshml_dbx.diagnosis.diagnosis import Culprit, Diagnosis, EvidenceRow, InFlight, WaitRow
from meshml_dbx.diagnosis.explain import call_detail, explain, mesh_line
from meshml_dbx.diagnosis.groups import Place, folds_of
from meshml_dbx.diagnosis.habits import find_habits
from meshml_dbx.diagnosis.rank import NONE, Suspect, find_suspects
from meshml_dbx.diagnosis.repeats import find_repeats
from meshml_dbx.diagnosis.sql import evidence_sql
from meshml_dbx.diagnosis.table import Ints
from meshml_dbx.diagnosis.text import answer_text
from meshml_dbx.diagnosis.units import counted, percent, seconds, short_id
from meshml_dbx.diagnosis.verdict import describe, judge
from meshml_dbx.traffic.access_log import UNFINISHED_TYPE
from meshml_dbx.traffic.evidence import Evidence

MOST_CULPRITS = 10
HEALTHY_SHARE = 0.05
"""A target that nothing is wrong with is named when the run waited this share of itself for it."""

WORST_CALLS = 5


def diagnose(evidence: Evidence) -> Diagnosis:
    """Why the run was slow, stuck or failed, as far as its evidence shows.

    >>> from meshml_dbx.traffic.evidence import CallColumns
    >>> from meshml_dbx.traffic.ownership import Run
    >>> run = Run(run_id="4f1c", name="a", experiment_id="0", status="FINISHED", start_time=0)
    >>> diagnose(Evidence(run=run, read_at=1_000_000, calls=CallColumns.of([]))).verdict
    'unknown'
    """
    case, label = _compared(evidence)
    suspects = find_suspects(case)
    repeats = find_repeats(case)
    judged = judge(case, suspects, between_polls_us=repeats.between_us)
    shown = _shown(case, suspects)
    compared = {one.reference.kind for one in shown if one.reference is not None}
    answer = Diagnosis(
        run_id=evidence.run.run_id,
        run_name=evidence.run.name,
        status=evidence.run.status,
        start_time=evidence.run.start_time,
        duration_us=case.duration_us,
        wait_us=case.waits.total_us,
        verdict=judged.verdict,
        sentence=judged.sentence,
        baseline=label or ("siblings on the same route" if "siblings" in compared else None),
        culprits=tuple(_culprit(case, one, rank) for rank, one in enumerate(shown, 1)),
        habits=find_habits(case, suspects, repeats),
        in_flight=_in_flight(case),
        coverage=judged.coverage,
        ledger=evidence.ledger,
        wait_rows=_wait_rows(case, suspects),
        evidence_rows=_evidence_rows(case, shown),
        evidence=evidence,
    )
    return replace(answer, text=answer_text(answer))


def _compared(evidence: Evidence) -> tuple[Case, str | None]:
    """The case, laid out against the baseline, and what the baseline is called.

    A baseline that the user named is taken as it is. Of recent runs only those count in which
    nothing was wrong by their own evidence: else a fault that lasts would become the custom.
    """
    run = sort_out(evidence)
    others = [(one, sort_out_past(one)) for one in evidence.baseline if len(one.calls)]
    folds = folds_of([run.distinct, *(other.distinct for _, other in others)])
    past = [(one, lay_out(other, folds)) for one, other in others]
    troubled = [_trouble(case) for _, case in past]
    if evidence.baseline_kind != "named":
        kept = [pair for pair, trouble in zip(past, troubled, strict=True) if trouble is None]
        past, troubled = kept, [None] * len(kept)
    profiles: Sequence[Mapping[Place, Profile]] = [case.own for _, case in past]
    if not past:
        return lay_out(run, folds), None
    if len(past) == 1:
        name = f"run {short_id(past[0][0].run.run_id)}"
        label = f"{name} ({troubled[0] or 'healthy'})"
    else:
        name = f"the last {len(past)} runs"
        label = f"{name} (healthy)"
    return lay_out(run, folds, past=profiles, name=name), label


def _trouble(case: Case) -> str | None:
    """What was wrong with a run of the past by its own evidence.

    Slowness with nothing to compare it with is left out: some services are slow and healthy.
    """
    for suspect in find_suspects(case):
        by_itself = suspect.cause.startswith("slow_") and suspect.reference is None
        if suspect.cause != NONE and not by_itself:
            return suspect.cause.replace("_", " ")
    return None


def _shown(case: Case, suspects: Sequence[Suspect]) -> tuple[Suspect, ...]:
    """Those to blame, then the healthy ones that the run waited long for."""
    least = HEALTHY_SHARE * case.duration_us
    shown = [one for one in suspects if one.cause != NONE or one.wait_us >= max(least, 1)]
    return tuple(shown[:MOST_CULPRITS])


def _culprit(case: Case, suspect: Suspect, rank: int) -> Culprit:
    rows, table, place = suspect.rows, case.table, suspect.place
    share = suspect.wait_us / max(case.duration_us, 1)
    detail = explain(case, suspect)
    reference = case.references.get(place)
    healthy = reference.profile if reference and reference.profile.answered else None
    return Culprit(
        rank=rank,
        virtual_service=place.service,
        route=place.route,
        target=place.target,
        upstream=_commonest(case, "upstream_host", rows),
        pattern=place.pattern,
        patterns=tuple(case.groups.places[group].pattern for group in suspect.groups),
        cause=suspect.cause,
        blamed_on=suspect.reference.kind if suspect.reference else "absolute",
        wait_s=suspect.wait_us / 1e6,
        share=share,
        cost_s=suspect.cost_us / 1e6,
        pause_s=suspect.pause_us / 1e6,
        calls=len(rows),
        of_calls=suspect.of_calls,
        errors=int(case.marks.failed[rows].sum()),
        retries=int(table.retries[rows].sum()),
        p95_ms=quantile(table.duration[rows], 0.95) / 1000,
        baseline_p95_ms=healthy.p95_us / 1000 if healthy else None,
        compared_with=reference.name if healthy and reference else None,
        stages=case.stages(rows),
        breakdown={name: int(case.parts[name][rows].sum()) / 1e6 for name in PARTS},
        request_ids=tuple(table.request_ids[row] for row in _worst(case, rows)),
        mesh_line=mesh_line(case, suspect),
        detail=detail,
        sentence=_culprit_sentence(case, suspect, detail),
        sql=evidence_sql(case, suspect),
    )


def _culprit_sentence(case: Case, suspect: Suspect, detail: str) -> str:
    waited = (
        f"{seconds(suspect.wait_us)} of {seconds(case.duration_us)} "
        f"({percent(suspect.wait_us / max(case.duration_us, 1))})"
    )
    calls = counted(len(suspect.rows), "call")
    if suspect.cause == NONE:
        return f"The run waited {waited} for {calls} to {describe(suspect)}; healthy: {detail}."
    cause = suspect.cause.replace("_", " ")
    return f"The run waited {waited} for {calls} to {describe(suspect)}; {cause}: {detail}."


def _commonest(case: Case, column: str, rows: Ints) -> str | None:
    codes = case.table.codes[column][rows]
    codes = codes[codes >= 0]
    return case.table.names[column][int(np.argmax(np.bincount(codes)))] if len(codes) else None


def _worst(case: Case, rows: Ints) -> list[int]:
    order = np.argsort(-case.table.duration[rows], kind="stable")[:WORST_CALLS]
    return [int(row) for row in rows[order]]


def _in_flight(case: Case) -> tuple[InFlight, ...]:
    """The calls without an end, the oldest first."""
    listed = [
        InFlight(
            request_id=one.request_id,
            age_s=_age_us(case, one.type, one.start_time, one.end_time) / 1e6,
            virtual_service=one.virtual_service or one.authority,
            target=one.target,
            stage=one.stage,
            pattern=one.pattern,
            is_cut_off=one.type == UNFINISHED_TYPE,
        )
        for one in case.evidence.in_flight
    ]
    return tuple(sorted(listed, key=lambda one: -one.age_s))


def _age_us(case: Case, kind: str, start: int, end: int) -> int:
    until = end if kind == UNFINISHED_TYPE else max(case.span[1], start)
    return until - start


def _wait_rows(case: Case, suspects: Sequence[Suspect]) -> tuple[WaitRow, ...]:
    """The wait by suspect, pattern and stage; it adds up to the run's wait exactly."""
    owner = np.zeros(len(case.table), dtype=np.int64)
    for number, suspect in enumerate(suspects):
        owner[suspect.rows] = number
    width = len(case.table.names["stage"]) + 1
    stage = case.table.codes["stage"] + 1
    key = (owner * max(len(case.groups), 1) + case.groups.row_group) * width + stage
    _, first, inverse, counts = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
    )
    sums = case.waits.sums(inverse.reshape(-1), len(first))
    rows = [
        _wait_row(case, suspects[int(owner[row])], int(row), int(count), int(wait))
        for row, count, wait in zip(first, counts, sums, strict=True)
    ]
    return tuple(sorted(rows, key=lambda one: -one.wait_us))


def _wait_row(case: Case, suspect: Suspect, row: int, count: int, wait: int) -> WaitRow:
    place = case.groups.places[int(case.groups.row_group[row])]
    return WaitRow(
        virtual_service=place.service,
        route=place.route,
        target=place.target,
        pattern=place.pattern,
        stage=case.table.text("stage", row),
        cause=suspect.cause,
        calls=count,
        wait_us=wait,
    )


def _evidence_rows(case: Case, shown: Sequence[Suspect]) -> tuple[EvidenceRow, ...]:
    """The worst calls of those to blame; where nobody is, of those that were waited for."""
    blamed = any(one.cause != NONE for one in shown)
    return tuple(
        _evidence_row(case, suspect, rank, row)
        for rank, suspect in enumerate(shown, 1)
        if suspect.cause != NONE or not blamed
        for row in _worst(case, suspect.rows)
    )


def _evidence_row(case: Case, suspect: Suspect, rank: int, row: int) -> EvidenceRow:
    numbers, table = case.table.numbers, case.table
    first = int(numbers["first_byte_us"][row])
    code, attempts = int(numbers["code"][row]), int(numbers["attempts"][row])
    return EvidenceRow(
        rank=rank,
        start_time=int(numbers["start_time"][row]),
        request_id=table.request_ids[row],
        target=table.text("target", row),
        code=code if code > 0 else None,
        flags=table.text("flags", row),
        attempts=attempts if attempts >= 0 else None,
        duration_ms=int(table.duration[row]) / 1000,
        first_byte_ms=first / 1000 if first >= 0 else None,
        detail=call_detail(case, suspect, row),
    )
