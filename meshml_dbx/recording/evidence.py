"""Evidence of one run, straight from the log folder: the same value that the lake makes.

Goes in: a log folder, the run, and the runs around it. Comes out: ``Evidence``. The rules (whose
call it is, its stage, the ledger, the baseline) are the words'; this file reads what they ask for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meshml_dbx.errors import UnknownRunError
from meshml_dbx.recording.collect import Collector, Records, Values, time_of
from meshml_dbx.recording.columns import Joined, Row, attempts_made, columns_of, header_stage
from meshml_dbx.recording.owners import Owners, Timeline, stage_timeline
from meshml_dbx.recording.read import FolderReader, LogFile
from meshml_dbx.recording.sidecars import Sidecar, find_sidecars
from meshml_dbx.traffic.access_log import read_number, read_text
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.evidence import (
    CallColumns,
    Evidence,
    Retried,
    RunCalls,
    SidecarCount,
    attempts_of,
    call_order,
    calls_sent,
    cpu_seconds,
    ledger_of,
    recent_runs,
    stages_during,
    unseen,
)
from meshml_dbx.traffic.ownership import Run, end_of
from meshml_dbx.traffic.program_log import Stage


def read_evidence(
    logs: Path,
    run: Run,
    runs: tuple[Run, ...],
    *,
    read_at: int,
    baseline: str | None = None,
) -> Evidence:
    """All that a log folder tells of a run, compared with the ``baseline`` run or recent ones.

    ``runs`` are the tracking store's: those that overlap the run decide whose a call is, those
    before it are what it is compared with. ``baseline`` is the id of one of them.

    Raises:
        LogFolderError: the folder is missing, cannot be read, or holds no sidecar's log.
        UnknownRunError: ``runs`` has no run with the baseline's id.
    """
    compared = _compared(run, runs, baseline)
    sidecars = find_sidecars(logs, since=min(r.start_time for r in (run, *compared)))
    read = tuple(_read(sidecar, run, compared) for sidecar in sidecars)
    own = _claim(run, runs, read)
    counts = _counts(run, own)
    calls = columns_of(joined for part in own for joined in part.rows)
    in_flight = _ordered(call for part in own for call in part.in_flight)
    tunnels = _ordered(call for part in own for call in part.tunnels)
    processes = _processes(run, own)
    stages = stages_during(
        run,
        (stage for part in own for stage in part.records.stages),
        processes=processes,
        read_at=read_at,
    )
    cpu_s = _cpu_s(run, own, processes, read_at)
    past = _past(compared, runs, read)
    sent = calls_sent(run, stages)
    return Evidence(
        run=run,
        read_at=read_at,
        calls=calls,
        attempts=_attempts(own),
        connections=_refused(run, read, read_at),
        in_flight=in_flight,
        tunnels=tunnels,
        stages=stages,
        cpu_s=cpu_s,
        ambiguous_calls=sum(part.ambiguous for part in own),
        ledger=ledger_of(counts, sent=sent, read_at=read_at),
        mesh_documents=_documents(read, calls, (*in_flight, *tunnels)),
        baseline=past,
        baseline_kind="named" if baseline else "recent" if past else "none",
        not_seen=unseen(
            run,
            calls=len(calls),
            open_calls=(*in_flight, *tunnels),
            ambiguous_calls=sum(part.ambiguous for part in own),
            windowed_calls=sum(part.windowed for part in own),
            cpu_s=cpu_s,
            counts=counts,
            sent=sent,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One sidecar with what was read of it, and the runs that its calls may belong to."""

    sidecar: Sidecar
    records: Records
    serves: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one sidecar has of one run."""

    sidecar: Sidecar
    records: Records
    rows: Sequence[Joined]
    in_flight: Sequence[Call]
    tunnels: Sequence[Call]
    ambiguous: int
    windowed: int

    @property
    def has_calls(self) -> bool:
        """Whether any call of the run passed it."""
        return bool(self.rows or self.in_flight or self.tunnels)

    def served(self, run: Run) -> bool:
        """Whether it is a sidecar of the run's process."""
        return self.sidecar.process_id is not None and self.sidecar.process_id == run.process_id


def _compared(run: Run, runs: Iterable[Run], baseline: str | None) -> tuple[Run, ...]:
    if baseline is None:
        return recent_runs(run, runs)
    found = tuple(other for other in runs if other.run_id == baseline)
    if not found:
        raise UnknownRunError(
            f"the baseline {baseline} is no run of the tracking store",
            advice="name another run with --baseline, or leave it out",
        )
    return found


def _read(sidecar: Sidecar, run: Run, compared: tuple[Run, ...]) -> _Read:
    """The records of a sidecar, as much of them as its part in the runs asks for."""
    collector = Collector(sidecar_id=sidecar.folder.sidecar_id)
    serves = _serves(sidecar, (run, *compared))
    is_own = run.run_id in serves
    past = [other.start_time for other in compared if other.run_id in serves]
    for file, blocks in FolderReader(folder=sidecar.folder).files():
        closed_before = _closed_before(file, run)
        if is_own and not closed_before:
            take = collector.read
        elif past and (file.is_live or (file.closed_at or 0) >= min(past)):
            take = collector.read_ends
        elif is_own or (sidecar.wrote_during(run) and not closed_before):
            take = collector.skim
        else:
            continue
        for block in blocks:
            take(block)
    return _Read(sidecar=sidecar, records=collector.records(), serves=serves)


def _serves(sidecar: Sidecar, runs: tuple[Run, ...]) -> frozenset[str]:
    """The ids of those runs that calls through this sidecar may belong to.

    Of another client only a header can make a call the run's: such a log is searched for the run's
    id first, which costs a hundredth of reading its lines.
    """
    sure = {run.run_id for run in runs if sidecar.may_serve(run)}
    sought = [run for run in runs if sidecar.may_be_named(run)]
    return frozenset(sure | _named(sidecar, sought))


def _named(sidecar: Sidecar, runs: list[Run]) -> set[str]:
    """The ids of those runs that this sidecar's log names anywhere."""
    if not runs:
        return set()
    first = min(runs, key=lambda run: run.start_time)
    sought, found = {run.run_id: run.run_id.encode() for run in runs}, set()
    for file, blocks in FolderReader(folder=sidecar.folder).files():
        if not _closed_before(file, first):
            for block in blocks:
                found |= {run_id for run_id, text in sought.items() if text in block.data}
    return found


def _closed_before(file: LogFile, run: Run) -> bool:
    return file.closed_at is not None and file.closed_at < run.start_time


def _claim(run: Run, runs: Iterable[Run], read: Iterable[_Read]) -> tuple[_Part, ...]:
    """What of all that was read belongs to the run."""
    serving = [one for one in read if run.run_id in one.serves]
    jobs = [one.sidecar.job for one in serving if one.sidecar.job]
    owners = Owners.during(run, runs, clients=_clients(serving), jobs=jobs)
    stages = stage_timeline(stage for one in serving for stage in one.records.stages)
    return tuple(_part(one, run, owners, stages) for one in serving)


def _part(one: _Read, run: Run, owners: Owners, stages: Timeline[Stage]) -> _Part:
    rows, ambiguous = [], 0
    for row in one.records.rows:
        owner = owners.of(row)
        if owner is not None and owner.run_id == run.run_id:
            stage = header_stage(row) or _stage_at(stages, row.process_id, row.start_time)
            rows.append(Joined(row, owner.method, stage))
            ambiguous += owner.ambiguous
    return _Part(
        sidecar=one.sidecar,
        records=one.records,
        rows=rows,
        in_flight=_owned(one.records.in_flight, run, owners, stages),
        tunnels=_owned(one.records.tunnels, run, owners, stages),
        ambiguous=ambiguous,
        windowed=sum(joined.method == "window" for joined in rows),
    )


def _owned(
    calls: Iterable[Call], run: Run, owners: Owners, stages: Timeline[Stage]
) -> tuple[Call, ...]:
    """The run's of these calls, each with the stage that it began in."""
    found = ((call, owners.of(call)) for call in calls)
    return tuple(
        replace(call, stage=call.stage or _stage_at(stages, call.process_id, call.start_time))
        for call, owner in found
        if owner is not None and owner.run_id == run.run_id
    )


def _stage_at(stages: Timeline[Stage], process_id: str | None, moment: int) -> str | None:
    stage = stages.at(process_id, moment)
    return stage.stage if stage else None


def _clients(read: Iterable[_Read]) -> set[str]:
    """The clients of these sidecars; of one whose first lines say nothing, as its calls have it."""
    clients = {one.sidecar.client for one in read}
    for one in read:
        if not one.sidecar.known:
            clients |= {row.client for row in one.records.rows}
            clients |= {call.client for call in one.records.in_flight}
    return {client for client in clients if client}


def _ordered(calls: Iterable[Call]) -> tuple[Call, ...]:
    return tuple(sorted(calls, key=call_order))


def _attempts(own: tuple[_Part, ...]) -> tuple[Attempt, ...]:
    """The attempts of the run's calls that were tried more than once."""
    rows = (joined.row for part in own for joined in part.rows)
    ended = (row for row in rows if attempts_made(row) > 1)
    open_ = (call for part in own for call in part.in_flight)
    retried = (
        *(
            _retried(row, row.start_time + row.duration_us)
            for row in ended
            if attempts_made(row) > 1
        ),
        *(_retried(call, None) for call in open_ if call.retries),
    )
    return attempts_of(retried, (a for part in own for a in part.records.attempts))


def _retried(call: Row | Call, end_time: int | None) -> Retried:
    return Retried(
        sidecar_id=call.sidecar_id,
        request_id=call.request_id or "",
        connection_id=call.connection_id,
        start_time=call.start_time,
        end_time=end_time,
    )


def _refused(run: Run, read: Iterable[_Read], read_at: int) -> tuple[Connection, ...]:
    """The refused connections to any sidecar that began while the run lasted."""
    until = read_at if run.end_time is None else end_of(run)
    found = (
        connection
        for one in read
        for connection in one.records.connections
        if run.start_time <= connection.start_time < until
    )
    return tuple(sorted(found, key=lambda c: (c.start_time, c.sidecar_id, c.connection_id or 0)))


def _processes(run: Run, own: Iterable[_Part]) -> frozenset[str]:
    """The processes of a run: the one that tagged it, else those whose calls joined it."""
    if run.process_id:
        return frozenset((run.process_id,))
    by_call = {joined.row.process_id for part in own for joined in part.rows}
    by_open_call = {call.process_id for part in own for call in (*part.in_flight, *part.tunnels)}
    return frozenset(process for process in by_call | by_open_call if process)


def _cpu_s(run: Run, own: Iterable[_Part], processes: frozenset[str], read_at: int) -> float | None:
    """CPU seconds of the run's processes while it lasted; None when none was sampled."""
    end = read_at if run.end_time is None else run.end_time
    used = (cpu_seconds(_cpu_points(p.records, processes), run.start_time, end) for p in own)
    known = [seconds for seconds in used if seconds is not None]
    return sum(known) if known else None


def _cpu_points(records: Records, processes: frozenset[str]) -> list[tuple[int, int]]:
    told = (v for v in (*records.samples, *records.programs) if v["process_id"] in processes)
    points = ((time_of(values), _cpu_us(values)) for values in told)
    return [(moment, cpu) for moment, cpu in points if cpu is not None]


def _cpu_us(values: Values) -> int | None:
    """A program begins with none, unless it says that it began before its recorder did."""
    used = read_number(values["cpu_us"])
    return 0 if used is None and values["type"] == "begin" else used


def _counts(run: Run, own: Iterable[_Part]) -> tuple[SidecarCount, ...]:
    """What those sidecars counted whose counters are the run's affair.

    They are those that its calls passed, and those that served its process meanwhile.
    """
    pairs = ((part, _count(part)) for part in own)
    return tuple(
        count
        for part, count in pairs
        if part.has_calls or (part.served(run) and count.lasted_during(run))
    )


def _count(part: _Part) -> SidecarCount:
    """What the sidecar counted and what its lines tell, for the run's ledger."""
    sampled = [v for v in part.records.samples if v["requests_total"] is not None]
    last: Values = max(sampled, key=time_of, default={})
    begins = [time_of(v) for v in part.records.programs if v["type"] == "begin"]
    return SidecarCount(
        sidecar_id=part.records.sidecar_id,
        rows=len(part.rows),
        others=part.records.finished - len(part.rows),
        counted=_finished_by(last) if last else None,
        counted_at=time_of(last) if last else None,
        ended=last.get("type") == "last",
        quarantined=len(part.records.bad_lines),
        dropped=(read_number(last["dropped"]) or 0) if last else 0,
        observer=part.sidecar.observer,
        begun_at=min(begins, default=None),
    )


def _finished_by(sample: Values) -> int:
    total, active = (read_number(sample[name]) for name in ("requests_total", "requests_active"))
    return (total or 0) - (active or 0)


def _documents(
    read: Iterable[_Read], calls: CallColumns, others: Iterable[Call]
) -> Mapping[str, tuple[str, str]]:
    """Source and text of every mesh that the run's calls crossed; the first that declared it."""
    crossed = {*calls.texts["mesh_version"].names, *(call.mesh_version for call in others)}
    declared = sorted((v for one in read for v in one.records.meshes), key=time_of, reverse=True)
    return {
        str(values["mesh_version"]): (
            read_text(values["source"]) or "",
            read_text(values["document"]) or "",
        )
        for values in declared
        if values["mesh_version"] in crossed
    }


def _past(
    compared: Iterable[Run], runs: tuple[Run, ...], read: tuple[_Read, ...]
) -> tuple[RunCalls, ...]:
    """The calls of the runs to compare with; a run without any tells nothing."""
    past = (
        RunCalls(
            run=run,
            calls=columns_of(joined for part in _claim(run, runs, read) for joined in part.rows),
        )
        for run in compared
    )
    return tuple(one for one in past if len(one.calls))
