"""The sections of the page as frozen values: every text and number that its template shows.

Goes in: the diagnosis and its evidence. Comes out: ``Sections``, each list of bounded length. The
template only lays out, and escapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.chart import Chart, chart_of
from meshml_dbx.diagnosis.diagnosis import Culprit, Diagnosis, Habit, InFlight
from meshml_dbx.diagnosis.rank import NONE
from meshml_dbx.diagnosis.sheet import (
    Path,
    PathWait,
    Sheet,
    StageWait,
    culprit_rows,
    path_waits,
    sheet_of,
    stage_waits,
)
from meshml_dbx.diagnosis.table import Bools
from meshml_dbx.diagnosis.text import CAUSES, next_step
from meshml_dbx.diagnosis.timeline import timeline_of
from meshml_dbx.diagnosis.units import counted, milliseconds, percent, seconds
from meshml_dbx.diagnosis.verdict import waited_on
from meshml_dbx.diagnosis.worst import CallRow, RefusalRow, TryRow, call_rows, refusals, tries
from meshml_dbx.traffic.access_log import time_text
from meshml_dbx.traffic.evidence import Evidence

MOST_CULPRITS = 10
MOST_WAITS = 12
MOST_STAGES = 20
MOST_NOTES = 20
MOST_IN_FLIGHT = 20

BAR = 1000.0
WORTH_SAYING = 0.01
NOTHING = "-"
ACCENT = "accent"
BLAMED = "blamed"

PART_GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("time to first byte", "shade-0", ("first_byte",)),
    ("earlier attempts and back-off", "shade-1", ("earlier_attempts",)),
    ("transfer", "shade-2", ("send", "transfer")),
    ("pool wait", "shade-3", ("pool_wait",)),
    ("connect", "shade-3", ("connect",)),
    ("TLS handshake", "shade-3", ("tls",)),
    ("other", "shade-4", ("other",)),
)
"""The parts of a wait as its bar shows them: label, shade, and the parts of a call in it."""

LEGEND = (
    ("time to first byte", "shade-0"),
    ("earlier attempts and back-off", "shade-1"),
    ("transfer", "shade-2"),
    ("pool wait, connect, TLS handshake", "shade-3"),
    ("other", "shade-4"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A label and its value; ``look`` is empty or accent."""

    label: str
    text: str
    look: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a bar of 1,000 units."""

    label: str
    text: str
    left: float
    width: float
    look: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CulpritCard:
    """One culprit, or one healthy target, as its card shows it."""

    culprit: Culprit
    cause: str
    is_blamed: bool
    detail: str
    advice: str
    figures: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitBar:
    """How long the run waited on one path, and for what."""

    path: Path
    text: str
    share: str
    parts: str
    label: str
    segments: tuple[Segment, ...]
    is_blamed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HabitCard:
    """A pattern of the program's own calls: what it is called, what it saves, what to do."""

    kind: str
    sentence: str
    saves: str
    advice: str
    stages: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One stage in the table below the timeline."""

    name: str
    time: str
    wait: str
    share: str
    calls: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """All that the page shows."""

    run_name: str
    run_id: str
    status: str
    begun: str
    baseline: str
    headline: str
    facts: tuple[Fact, ...]
    culprits: tuple[CulpritCard, ...]
    habits: tuple[HabitCard, ...]
    in_flight: tuple[InFlight, ...]
    in_flight_left_out: int
    witness: str
    is_mesh: bool
    chart: Chart
    stages: tuple[StageRow, ...]
    waits: tuple[WaitBar, ...]
    waits_left_out: str
    rows: tuple[CallRow, ...]
    rows_caption: str
    tries: tuple[TryRow, ...]
    tries_caption: str
    refusals: tuple[RefusalRow, ...]
    refusals_caption: str
    wall: tuple[Segment, ...]
    not_seen: tuple[str, ...]
    ledger: tuple[Fact, ...]
    explained: tuple[str, ...]
    next: str


def sections_of(diagnosis: Diagnosis, evidence: Evidence) -> Sections:
    """The sections of a diagnosis' page."""
    sheet = sheet_of(evidence)
    blamed = diagnosis.blamed[:MOST_CULPRITS]
    masks = [culprit_rows(sheet, culprit) for culprit in blamed]
    waits = path_waits(sheet)
    marked = {(one.virtual_service, one.route or "", one.target or "") for one in diagnosis.blamed}
    rows = call_rows(sheet, diagnosis, masks)
    tried, refused = tries(evidence), refusals(evidence)
    return Sections(
        run_name=diagnosis.run_name,
        run_id=diagnosis.run_id,
        status=diagnosis.status,
        begun=time_text(diagnosis.start_time)[:19].replace("T", " "),
        baseline=diagnosis.baseline or "none",
        headline=diagnosis.sentence,
        facts=_facts(diagnosis, sheet),
        culprits=tuple(_card(culprit) for culprit in diagnosis.culprits[:MOST_CULPRITS]),
        habits=tuple(_habit_card(one) for one in diagnosis.habits),
        in_flight=diagnosis.in_flight[:MOST_IN_FLIGHT],
        in_flight_left_out=max(len(diagnosis.in_flight) - MOST_IN_FLIGHT, 0),
        witness="process" if diagnosis.seen_by_client else "proxy",
        is_mesh=not diagnosis.seen_by_client,
        chart=chart_of(
            timeline_of(sheet.table, _any(masks, sheet), evidence.stages, span=sheet.span)
        ),
        stages=tuple(_stage(one) for one in stage_waits(sheet, evidence)[:MOST_STAGES]),
        waits=_wait_bars(waits[:MOST_WAITS], diagnosis, marked),
        waits_left_out=_left_out(waits[MOST_WAITS:]),
        rows=rows,
        rows_caption=_rows_caption(len(rows), len(evidence.calls)),
        tries=tried,
        tries_caption=_of(len(tried), len(evidence.attempts)),
        refusals=refused,
        refusals_caption=_of(len(refused), len(evidence.connections)),
        wall=_wall(diagnosis),
        not_seen=diagnosis.coverage.not_seen[:MOST_NOTES],
        ledger=_ledger(diagnosis),
        explained=diagnosis.ledger.explained[:MOST_NOTES],
        next=next_step(diagnosis),
    )


def _any(masks: Sequence[Bools], sheet: Sheet) -> Bools:
    return np.asarray(np.any([np.zeros(len(sheet.table), dtype=np.bool_), *masks], axis=0))


def _facts(diagnosis: Diagnosis, sheet: Sheet) -> tuple[Fact, ...]:
    share = percent(diagnosis.wait_us / max(diagnosis.duration_us, 1))
    cpu = diagnosis.coverage.cpu_total_s
    on = waited_on(seen_by_client=diagnosis.seen_by_client)
    facts = [
        Fact(label="run took", text=seconds(diagnosis.duration_us)),
        Fact(label=f"waited {on}", text=f"{seconds(diagnosis.wait_us)} ({share})"),
        *(
            Fact(label="of it for culprit 1", text=seconds(one.wait_s * 1e6), look=ACCENT)
            for one in diagnosis.blamed[:1]
        ),
        Fact(label="calls", text=f"{len(sheet.table):,}"),
        Fact(label="failed", text=f"{int(sheet.table.failed.sum()):,}"),
        Fact(label="program's CPU", text=NOTHING if cpu is None else seconds(cpu * 1e6)),
    ]
    return tuple(facts)


def _card(culprit: Culprit) -> CulpritCard:
    is_blamed = culprit.cause != NONE
    return CulpritCard(
        culprit=culprit,
        cause=culprit.cause.replace("_", " ") if is_blamed else "healthy",
        is_blamed=is_blamed,
        detail=_as_sentence(culprit.detail),
        advice=_as_sentence(CAUSES.get(culprit.cause, "").partition("Do: ")[2])
        if is_blamed
        else "",
        figures=_figures(culprit),
    )


def _habit_card(habit: Habit) -> HabitCard:
    return HabitCard(
        sentence=_as_sentence(habit.sentence),
        kind=habit.kind.replace("_", " ").capitalize().replace("gets", "GETs"),
        saves=f"could save {seconds(habit.saves_s * 1e6)}",
        advice=_as_sentence(CAUSES[habit.kind].partition("Do: ")[2]),
        stages=", ".join(habit.stages),
    )


def _as_sentence(text: str) -> str:
    """The text with a capital at its begin and a full stop at its end.

    >>> _as_sentence("as in run 9be27a")
    'As in run 9be27a.'
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _figures(culprit: Culprit) -> tuple[Fact, ...]:
    optional = (
        ("beyond healthy", seconds(culprit.cost_s * 1e6) if culprit.cost_s else ""),
        ("pauses after failures", seconds(culprit.pause_s * 1e6) if culprit.pause_s else ""),
        ("errors", f"{culprit.errors:,}" if culprit.errors else ""),
        ("stages", ", ".join(culprit.stages)),
        ("upstream", culprit.upstream or ""),
        ("mesh file", culprit.mesh_line or ""),
    )
    healthy = culprit.baseline_p95_ms
    return (
        Fact(label="waited", text=f"{seconds(culprit.wait_s * 1e6)} ({percent(culprit.share)})"),
        Fact(label="p95", text=milliseconds(culprit.p95_ms)),
        *([Fact(label="p95 when healthy", text=milliseconds(healthy))] if healthy else []),
        Fact(label="calls", text=f"{culprit.calls:,} of {culprit.of_calls:,}"),
        Fact(label="retries", text=f"{culprit.retries:,}"),
        *(Fact(label=label, text=text) for label, text in optional if text),
    )


def _stage(stage: StageWait) -> StageRow:
    return StageRow(
        name=stage.stage,
        time=NOTHING if stage.time_us is None else seconds(stage.time_us),
        wait=seconds(stage.wait_us),
        share=_share_of_stage(stage),
        calls=f"{stage.calls:,}",
    )


def _share_of_stage(stage: StageWait) -> str:
    """The share of a stage's time that was wait; calls that outlast it make that meaningless."""
    if not stage.time_us or stage.wait_us > stage.time_us:
        return NOTHING
    return percent(stage.wait_us / stage.time_us)


def _wait_bars(
    waits: Sequence[PathWait], diagnosis: Diagnosis, marked: set[Path]
) -> tuple[WaitBar, ...]:
    longest = max([one.wait_us for one in waits], default=0)
    return tuple(
        WaitBar(
            path=one.path,
            text=seconds(one.wait_us),
            share=percent(one.wait_us / max(diagnosis.duration_us, 1)),
            parts=_parts_text(one),
            label=f"waited {seconds(one.wait_us)}: {_parts_text(one)}",
            segments=_part_segments(one, longest),
            is_blamed=one.path in marked,
        )
        for one in waits
    )


def _grouped(wait: PathWait) -> list[tuple[str, str, float]]:
    parts = dict(wait.parts_us)
    return [(label, look, sum(parts[name] for name in names)) for label, look, names in PART_GROUPS]


def _parts_text(wait: PathWait) -> str:
    """The parts of a wait from one per cent up, the largest first."""
    total = max(wait.wait_us, 1)
    parts = sorted(_grouped(wait), key=lambda part: -part[2])
    said = [
        f"{label} {seconds(part)} ({percent(part / total)})"
        for label, _, part in parts
        if part / total >= WORTH_SAYING
    ]
    return " · ".join([*said, counted(wait.calls, "call")])


def _part_segments(wait: PathWait, longest: int) -> tuple[Segment, ...]:
    scale = BAR / max(longest, 1)
    segments: list[Segment] = []
    left = 0.0
    for label, look, part in _grouped(wait):
        segments.append(
            Segment(label=label, text=seconds(part), left=left, width=part * scale, look=look)
        )
        left += part * scale
    return tuple(segments)


def _left_out(waits: Sequence[PathWait]) -> str:
    if not waits:
        return ""
    wait = seconds(sum(one.wait_us for one in waits))
    return f"and {wait} on {counted(len(waits), 'further path')}"


def _rows_caption(shown: int, of: int) -> str:
    if shown == of:
        return f"All {counted(of, 'finished call')}, the culprits' first, then by duration."
    return (
        f"{shown} of {of:,} finished calls: the longest of each culprit, then the longest of all."
    )


def _of(shown: int, of: int) -> str:
    return f"{of:,}" if shown == of else f"the first {shown} of {of:,}"


def _wall(diagnosis: Diagnosis) -> tuple[Segment, ...]:
    """The run's whole time: waits, tunnels, CPU, and what nothing explains."""
    coverage = diagnosis.coverage
    on = waited_on(seen_by_client=diagnosis.seen_by_client)
    pieces = (
        (f"waiting {on}", diagnosis.wait_s, BLAMED if diagnosis.blamed else "shade-0"),
        ("only https tunnels open", coverage.tunnel_s, "shade-1"),
        ("program's CPU", coverage.cpu_s or 0.0, "shade-2"),
        ("not explained", coverage.unexplained_s, "shade-4"),
    )
    segments: list[Segment] = []
    left = 0.0
    for label, value_s, look in pieces:
        share = value_s / max(diagnosis.duration_s, 1e-6)
        text = f"{seconds(value_s * 1e6)} ({percent(share)})"
        segments.append(Segment(label=label, text=text, left=left, width=BAR * share, look=look))
        left += BAR * share
    return tuple(segments)


def _ledger(diagnosis: Diagnosis) -> tuple[Fact, ...]:
    ledger = diagnosis.ledger
    counts = (
        ("sent by the program", ledger.sent),
        ("recorded" if diagnosis.seen_by_client else "proxied", ledger.proxied),
        ("rows", ledger.rows),
        ("quarantined", ledger.quarantined),
    )
    return (
        *(
            Fact(label=label, text="not counted" if count is None else f"{count:,}")
            for label, count in counts
        ),
        Fact(label="lost", text=f"{ledger.lost:,}", look=ACCENT if ledger.lost else ""),
    )
