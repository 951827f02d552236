"""A run as its proxies would have recorded it: four stages, 404 calls, one slow target.

The numbers are drawn once from a fixed seed, so that every test sees the same run.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.evidence import CallColumns, Evidence, Ledger, RunCalls
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.program_log import Stage

BEGIN = 1_795_410_522_000_000
SECOND = 1_000_000
PROCESS = "6f1d3c1e-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one stage calls: how often, with how many workers, and how slow each target is."""

    stage: str
    virtual_service: str
    route: str
    path: str
    calls: int
    workers: int
    targets: tuple[tuple[str, int, int], ...]
    """Name, weight, microseconds until the first byte."""


def endpoints(*, labels_v2_us: int) -> tuple[Endpoint, ...]:
    """The four stages of the sample's training program."""
    return (
        Endpoint(
            stage="ingestion",
            virtual_service="records.ml.local",
            route="pages",
            path="/v1/records",
            calls=120,
            workers=2,
            targets=(("records", 1, 12_000),),
        ),
        Endpoint(
            stage="processing",
            virtual_service="features.ml.local",
            route="look-up",
            path="/v1/features",
            calls=100,
            workers=4,
            targets=(("features", 1, 9_000),),
        ),
        Endpoint(
            stage="training",
            virtual_service="labels.ml.local",
            route="by-day",
            path="/v1/labels",
            calls=132,
            workers=4,
            targets=(("labels-v1", 70, 30_000), ("labels-v2", 30, labels_v2_us)),
        ),
        Endpoint(
            stage="scoring",
            virtual_service="scoring.ml.local",
            route="score",
            path="/v1/score",
            calls=52,
            workers=1,
            targets=(("scoring", 1, 14_000),),
        ),
    )


def sample_run(*, run_id: str = "4f1c0b7d2a5e4c3f9b8a7d6e5f4c3b2a", seconds: float = 14.8) -> Run:
    """The run itself, as MLflow knows it."""
    return Run(
        run_id=run_id,
        name="churn-training",
        experiment_id="1",
        experiment="churn",
        status="FINISHED",
        start_time=BEGIN,
        end_time=BEGIN + int(seconds * SECOND),
        process_id=PROCESS,
        client="churn-training",
    )


def sample_evidence(*, labels_v2_us: int = 870_000) -> Evidence:
    """Evidence of a run in which labels-v2 answers slowly while labels-v1 is healthy."""
    calls, stages = _played(labels_v2_us=labels_v2_us, seed=7)
    healthy, _ = _played(labels_v2_us=32_000, seed=8)
    end = max(call.end_time for call in calls) + SECOND * 7 // 10
    run = sample_run(seconds=(end - BEGIN) / SECOND)
    return Evidence(
        run=run,
        read_at=end + SECOND,
        calls=CallColumns.of(calls, ["process"] * len(calls)),
        attempts=tuple(_attempts(calls)),
        stages=stages,
        cpu_s=1.9,
        ledger=Ledger(sent=len(calls), proxied=len(calls), rows=len(calls)),
        baseline=(
            RunCalls(
                run=sample_run(run_id="9be27a", seconds=7.1),
                calls=CallColumns.of(healthy, ["process"] * len(healthy)),
            ),
        ),
        baseline_kind="recent",
    )


def stuck_evidence() -> Evidence:
    """The same run while it still lasts: its last call has been in flight for 12 seconds."""
    sample = sample_evidence(labels_v2_us=32_000)
    last = sample.stages[-1]
    begun = (last.end_time or 0) + SECOND // 100
    stuck = Call(
        type="DownstreamPeriodic",
        start_time=begun,
        observer="egress",
        sidecar_id="churn-training-0a1b2c3d",
        request_id="0f0e0d0c-1111-4222-8333-444455556666",
        client="churn-training",
        process_id=PROCESS,
        method="GET",
        path="/v1/score/52",
        pattern="GET /v1/score/{}",
        virtual_service="scoring.ml.local",
        route="score",
        target="scoring",
        upstream_host="127.0.0.1:18084",
        stage="scoring",
        duration_ms=12_000,
    )
    return replace(
        sample,
        run=replace(sample.run, status="RUNNING", end_time=None),
        read_at=begun + 12 * SECOND,
        in_flight=(stuck,),
        stages=(*sample.stages[:-1], replace(last, end_time=None)),
        not_seen=("the program's CPU time: no sample was written",),
        cpu_s=None,
    )


def refused_evidence() -> Evidence:
    """The sample with a refused handshake seen by labels-v2's proxy."""
    refusal = Connection(
        start_time=BEGIN + 8 * SECOND,
        observer="ingress",
        sidecar_id="labels-v2-99aa88bb",
        virtual_node="labels-v2",
        downstream_address="127.0.0.1:40112",
        downstream_peer="spiffe://ml/other",
        failure="TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
        duration_ms=4,
    )
    return replace(sample_evidence(), connections=(refusal,))


def _played(*, labels_v2_us: int, seed: int) -> tuple[list[Call], tuple[Stage, ...]]:
    """The calls and stages of the program, one stage after the other."""
    chance = Random(seed)
    calls: list[Call] = []
    stages: list[Stage] = []
    clock = BEGIN + SECOND // 5
    for endpoint in endpoints(labels_v2_us=labels_v2_us):
        begun = clock
        of_stage = list(_stage_calls(endpoint, begun, chance))
        clock = max(call.end_time for call in of_stage) + chance.randrange(100_000, 400_000)
        calls += of_stage
        stages.append(
            Stage(
                stage=endpoint.stage,
                stage_id=f"{endpoint.stage}-1",
                process_id=PROCESS,
                start_time=begun,
                end_time=clock,
                sent=endpoint.calls,
            )
        )
    return calls, tuple(stages)


def _stage_calls(endpoint: Endpoint, begin: int, chance: Random) -> Iterator[Call]:
    free = [begin + 2_000 * worker for worker in range(endpoint.workers)]
    names, weights, first_bytes = zip(*endpoint.targets, strict=True)
    for number in range(endpoint.calls):
        worker = free.index(min(free))
        (index,) = chance.choices(range(len(names)), weights)
        first_byte = int(first_bytes[index] * chance.lognormvariate(0, 0.1))
        call = _call(endpoint, names[index], number, start=free[worker], first_byte=first_byte)
        free[worker] = call.end_time + chance.randrange(1_000, 6_000)
        yield call


def _call(endpoint: Endpoint, target: str, number: int, *, start: int, first_byte: int) -> Call:
    ports = {"records": 18080, "labels-v1": 18081, "labels-v2": 18082, "features": 18083}
    retried = endpoint.stage == "ingestion" and number % 40 == 39
    failed = endpoint.stage == "processing" and number == 55
    to_upstream = 60_000 if retried else 900
    receive = 2_500
    return Call(
        type="DownstreamEnd",
        start_time=start,
        observer="egress",
        sidecar_id="churn-training-0a1b2c3d",
        process_id=PROCESS,
        client="churn-training",
        request_id=f"{number:08x}-{endpoint.calls:04x}-4000-8000-{first_byte:012x}",
        method="GET",
        path=f"{endpoint.path}/{number}",
        pattern=f"GET {endpoint.path}/{{}}",
        authority=endpoint.virtual_service,
        virtual_service=endpoint.virtual_service,
        route=endpoint.route,
        target=target,
        stage=endpoint.stage,
        mesh_version="a1b2c3d4",
        code=503 if failed else 200,
        flags="UC" if failed else None,
        attempts=2 if retried else 1,
        bytes_in=0,
        bytes_out=4_096,
        to_upstream_us=to_upstream,
        overhead_us=300,
        send_us=100,
        first_byte_us=first_byte,
        receive_us=receive,
        respond_us=receive,
        total_us=to_upstream + 100 + first_byte + receive,
        pool_ready_ms=1,
        connect_us=400,
        tls_us=2_100,
        upstream_connection_id=number % 4,
        upstream_host=f"127.0.0.1:{ports.get(target, 18084)}",
        upstream_local_address=f"127.0.0.1:{41_000 + number % 4}",
        upstream_peer=f"spiffe://ml/{target}",
    )


def _attempts(calls: list[Call]) -> Iterator[Attempt]:
    """Both tries of each call that was tried twice; the first was reset."""
    for call in calls:
        if call.retries:
            for attempt, (code, flags) in enumerate(((503, "UC"), (200, None)), start=1):
                yield Attempt(
                    start_time=call.start_time + (attempt - 1) * 55_000,
                    observer="egress",
                    sidecar_id=call.sidecar_id,
                    process_id=call.process_id,
                    client=call.client,
                    request_id=call.request_id,
                    method=call.method,
                    path=call.path,
                    virtual_service=call.virtual_service,
                    route=call.route,
                    target=call.target,
                    code=code,
                    flags=flags,
                    attempt=attempt,
                    duration_ms=50,
                    upstream_host=call.upstream_host,
                )
