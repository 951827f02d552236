"""Every call is joined, ambiguous or unowned, and one of these only; a change touches its time."""

import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshml_dbx.lake.job_runs import refresh_job_runs
from meshml_dbx.lake.runs import store_runs, touched_spans
from meshml_dbx.lake.views import create_views
from meshml_dbx.recording.owners import Owners
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.ownership import ProcessJob, Run, end_of
from tests.lake.conftest import Lab
from tests.lake.test_cost import TIMELINE, at
from tests.lake.test_join import Owner as Row
from tests.lake.test_join import a_run, owners_in_lake
from tests.lake.writing import NOON, SECOND

PROCESSES = ("p", "q", "r")
CLIENTS = ("churn", "fraud")
JOBS = (
    ProcessJob(process_id="p", job_run_id="7", task_run_id="71"),
    ProcessJob(process_id="q", job_run_id="7", task_run_id="72"),
    ProcessJob(process_id="r", job_run_id="8", workspace_id="5"),
)
EVER = Run(run_id="ever", name="", experiment_id="0", status="RUNNING", start_time=-1, deleted=True)
"""A run of all the time there is, which owns nothing: those that overlap it are all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose call it is, how that is known, and whether another has as good a claim."""

    run_id: str
    method: str
    ambiguous: bool


@st.composite
def any_runs(draw: st.DrawFn) -> list[Run]:
    """Runs that nest, overlap, last, are deleted, and have or lack each way to be found."""
    runs: list[Run] = []
    for number in range(draw(st.integers(0, 9))):
        start = draw(st.integers(0, 40))
        runs.append(
            Run(
                run_id=f"run{number}",
                name="",
                experiment_id="0",
                status="FINISHED",
                start_time=start,
                end_time=draw(st.one_of(st.none(), st.integers(start - 2, start + 20))),
                parent_run_id=draw(st.sampled_from([None, *(r.run_id for r in runs)])),
                process_id=draw(st.sampled_from([*PROCESSES, None, None])),
                client=draw(st.sampled_from([*CLIENTS, None])),
                workspace_id=draw(st.sampled_from(["5", "6", None])),
                job_run_id=draw(st.sampled_from(["7", "8", "71", None])),
                task_run_id=draw(st.sampled_from(["71", "72", None])),
                deleted=draw(st.booleans()) and draw(st.booleans()),
            )
        )
    return runs


@st.composite
def any_calls(draw: st.DrawFn) -> list[Call]:
    """Calls of any process, client and header, or of none."""
    moments = draw(st.lists(st.integers(-2, 65), min_size=1, max_size=12))
    return [
        Call(
            type="DownstreamEnd",
            start_time=moment,
            observer="egress",
            sidecar_id="s",
            process_id=draw(st.sampled_from([*PROCESSES, None])),
            client=draw(st.sampled_from([*CLIENTS, None])),
            run_id=draw(st.sampled_from(["run0", "run1", "gone", None])),
        )
        for moment in moments
    ]


def by_the_rule(runs: list[Run], call: Call) -> Owner | None:
    """The owner of a call by the rule as it is written, looking at that call alone."""
    on = [r for r in runs if r.start_time <= call.start_time < end_of(r) and not r.deleted]
    if call.client and call.run_id in {run.run_id for run in on}:
        return Owner(run_id=str(call.run_id), method="header", ambiguous=False)
    job = next((one for one in JOBS if one.process_id == call.process_id), None)
    ways = {
        "process": [[r for r in on if call.process_id and r.process_id == call.process_id]],
        "job": [of_task(on, job), of_job(on, job)] if job else [],
        "window": [[r for r in on if call.client and r.client in (None, call.client)]],
    }
    for method, circles in ways.items():
        for found in circles:
            if found:
                leaves = [r for r in found if not any(o.parent_run_id == r.run_id for o in found)]
                latest = max(leaves or found, key=lambda r: (r.start_time, r.run_id))
                return Owner(run_id=latest.run_id, method=method, ambiguous=len(leaves) != 1)
    return None


def of_task(on: list[Run], job: ProcessJob) -> list[Run]:
    """The runs of the process's own task; MLflow's tag may have its id for the job run's."""
    named = [r for r in on if job.task_run_id and job.task_run_id in (r.task_run_id, r.job_run_id)]
    return [
        run for run in named if run.workspace_id in (None, job.workspace_id) or not job.workspace_id
    ]


def of_job(on: list[Run], job: ProcessJob) -> list[Run]:
    """The runs of its job, of no other task of it."""
    named = [r for r in on if job.job_run_id and job.job_run_id in (r.job_run_id, r.task_run_id)]
    other = [r for r in named if not (r.task_run_id and job.task_run_id)]
    return [
        run for run in other if run.workspace_id in (None, job.workspace_id) or not job.workspace_id
    ]


def told(owners: Owners, call: Call) -> Owner | None:
    """The owner that the code finds."""
    found = owners.of(call)
    if found is None:
        return None
    return Owner(run_id=found.run_id, method=found.method, ambiguous=found.ambiguous)


def fate(owner: Owner | None) -> str:
    """Which of the three it is."""
    return "unowned" if owner is None else "ambiguous" if owner.ambiguous else "joined"


@given(any_runs(), any_calls())
def test_every_call_is_joined_ambiguous_or_unowned(runs: list[Run], calls: list[Call]) -> None:
    """By the rule as it is written, and the three add up to all calls."""
    owners = Owners.during(EVER, runs, clients=CLIENTS, jobs=JOBS)
    assert [told(owners, call) for call in calls] == [by_the_rule(runs, call) for call in calls]
    counts = Counter(fate(told(owners, call)) for call in calls)
    assert counts["joined"] + counts["ambiguous"] + counts["unowned"] == len(calls)


@given(any_runs(), any_calls(), st.data())
def test_a_run_that_changes_changes_its_time_only(
    runs: list[Run], calls: list[Call], data: st.DataObject
) -> None:
    """Outside of the time that is joined again, each call has the owner that it had."""
    changed = data.draw(st.lists(st.sampled_from(runs), unique=True)) if runs else []
    after = {run.run_id: run for run in runs}
    for run in changed:
        end = st.one_of(st.none(), st.integers(run.start_time, run.start_time + 20))
        after[run.run_id] = data.draw(
            st.sampled_from(
                [
                    replace(run, end_time=data.draw(end), status="KILLED"),
                    replace(run, deleted=not run.deleted),
                    replace(run, client="churn", team="risk"),
                    replace(run, parent_run_id="run0", start_time=max(run.start_time - 3, 0)),
                    replace(run, job_run_id="8", name="another"),
                ]
            )
        )
    spans = [span for run in runs for span in touched_spans(run, after[run.run_id])]
    new = [run for run in data.draw(any_runs()) if run.run_id not in after]
    spans += [span for run in new for span in touched_spans(None, run)]
    before = Owners.during(EVER, runs, clients=CLIENTS, jobs=JOBS)
    now = Owners.during(EVER, [*after.values(), *new], clients=CLIENTS, jobs=JOBS)
    for call in calls:
        if not any(span.start <= call.start_time < span.end for span in spans):
            assert told(before, call) == told(now, call)


# --- in Delta -------------------------------------------------------------------------------------

TASKS = TIMELINE.replace("run_name STRING", "task_key STRING, job_run_id STRING")


def random_runs(chance: random.Random) -> list[Run]:
    """Runs of an hour or two after noon with each way to be found, or none."""
    runs: list[Run] = []
    for number in range(60):
        start = chance.randrange(0, 3000)
        run = a_run(
            f"run{number}",
            start,
            None if chance.random() < 0.03 else start + chance.randrange(0, 600),
            process_id=chance.choice([*PROCESSES, *[None] * 9]),
            client=chance.choice((*CLIENTS, *CLIENTS, None)),
            parent_run_id=chance.choice(runs).run_id if runs and chance.random() < 0.3 else None,
            job_run_id=chance.choice(("7", "8", "71", None)),
            task_run_id=chance.choice(("71", "72", None)),
        )
        runs.append(run)
    return runs


def write_calls(lab: Lab, chance: random.Random) -> list[Call]:
    """What sidecars of every process and client log in that time; some callers name a run."""
    who = [(process, client) for process in (*PROCESSES, None) for client in (*CLIENTS, None)]
    calls: list[Call] = []
    for number, (process, client) in enumerate(who):
        writer = lab.writer(sidecar_id=f"s-{number:08x}", process_id=process, client=client)
        for job in JOBS:
            if job.process_id == process:
                ids = {"job_run_id": job.job_run_id, "task_run_id": job.task_run_id}
                writer.program("begin", NOON - SECOND, workspace_id=job.workspace_id, **ids)
        for moment in (NOON + chance.randrange(-100, 9000) * SECOND // 2 for _ in range(60)):
            named = chance.choice(["run0", "run1", "gone", *[None] * 9])
            calls.append(
                Call(
                    type="DownstreamEnd",
                    start_time=moment,
                    observer="egress",
                    sidecar_id=writer.sidecar_id,
                    process_id=process,
                    client=client,
                    run_id=named,
                    request_id=writer.call(moment, run_id=named, total_us=1000),
                )
            )
        writer.close()
    return calls


def expected_owners(runs: list[Run], calls: list[Call]) -> dict[str, Row]:
    """Whose each call is, by request id, as ``owners_in_lake`` has it."""
    found = ((str(call.request_id), by_the_rule(runs, call)) for call in calls)
    return {one: (o.run_id, o.method, o.ambiguous) for one, o in found if o is not None}


def coverage(lab: Lab) -> Counter[str]:
    """The sums of join_coverage."""
    names = ("calls", "joined", "ambiguous", "unowned")
    rows = lab.spark.table(f"{lab.names.schema}.join_coverage").collect()
    assert all(row["calls"] == sum(row[name] for name in names[1:]) for row in rows)
    return Counter({name: sum(row[name] for row in rows) for name in names})


def write_timelines(lab: Lab) -> str:
    """Job run 7 in two slices, of which the later came first, and its task 71; another's run 7."""
    schema = f"{lab.names.schema}_system".replace("`", "")
    lab.spark.sql(f"CREATE SCHEMA {schema}")
    later = ("acc", "5", "1", "7", at(13), at(13, 20), None, "JOB_RUN", "nightly", ["c2"])
    first = ("acc", "5", "1", "7", at(11, 50), at(13), None, "JOB_RUN", "nightly", ["c1", "c2"])
    other: tuple[object, ...] = ("acc", "6", "1", "7", at(9), at(10), None, "JOB_RUN", "other", [])
    jobs: list[tuple[object, ...]] = [
        (*later, "FAILED", None, {}),
        (*first, None, None, {}),
        (*other, None, None, {}),
    ]
    task = ("acc", "5", "1", "71", at(12), at(13, 10), None, None, "fit", "7", ["c1"])
    table = f"{schema}.lakeflow_job_run_timeline"
    lab.spark.createDataFrame(jobs, TIMELINE).write.saveAsTable(table)
    tasks = f"{schema}.lakeflow_job_task_run_timeline"
    lab.spark.createDataFrame([(*task, "FAILED", None, {})], TASKS).write.saveAsTable(tasks)
    return schema


@pytest.mark.spark
def test_the_lake_keeps_count_of_every_call(lab: Lab) -> None:
    """Also as runs come late, are deleted and restored; each call waits where it is joined."""
    chance = random.Random(11)
    runs, calls = random_runs(chance), write_calls(lab, chance)
    store_runs(lab.spark, lab.names, runs[:30])
    lab.ingest()
    gone = runs[::7]
    late = [replace(run, deleted=run in gone) for run in runs if run in gone or run in runs[30:]]
    assert store_runs(lab.spark, lab.names, late) == len(late)
    left = [run for run in runs if run not in gone]
    assert owners_in_lake(lab) == expected_owners(left, calls)
    assert lab.table("runs").where("deleted").count() == len(gone)

    assert store_runs(lab.spark, lab.names, runs) == len(gone)
    expected = expected_owners(runs, calls)
    assert {method for _, method, _ in expected.values()} == {"header", "process", "job", "window"}
    assert owners_in_lake(lab) == expected
    waits = lab.table("waits").groupBy().sum("calls").collect()[0][0]
    assert waits == lab.count("calls_by_run") == len(expected)
    create_views(lab.spark, lab.names)
    fates = Counter(fate(by_the_rule(runs, call)) for call in calls)
    assert coverage(lab) == fates + Counter(calls=len(calls))

    schema = write_timelines(lab)
    assert refresh_job_runs(lab.spark, lab.names, system="no.such").notice.startswith("no job runs")
    for _ in range(2):
        assert refresh_job_runs(lab.spark, lab.names, system=schema).refreshed
    columns = ("workspace_id", "job_run_id", "task_run_id", "start_time", "result_state")
    assert lab.values("job_runs", *columns, "end_time", "compute_ids") == [
        ("5", "7", "71", at(12), "FAILED", at(13, 10), ["c1"]),
        ("5", "7", None, at(11, 50), "FAILED", at(13, 20), ["c1", "c2"]),
        ("6", "7", None, at(9), None, at(10), []),
    ]
    by_job = lab.spark.table(f"{lab.names.schema}.job_run_calls").where("task_run_id = '71'")
    (row,) = by_job.collect()
    mine = [call for call in calls if call.process_id == "p"]
    unjoined = sum(fate(by_the_rule(runs, call)) == "unowned" for call in mine)
    assert (row["task_key"], row["end_time"]) == ("fit", at(13, 10))
    assert (row["calls"], row["without_run"]) == (len(mine), unjoined)
