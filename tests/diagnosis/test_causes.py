"""Each cause is named from its evidence, and its near misses are not blamed."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from meshml_dbx.diagnosis import CAUSES, Culprit, Diagnosis, diagnose
from meshml_dbx.diagnosis.causes import RULES
from meshml_dbx.diagnosis.habits import KINDS
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.traffic.evidence import Evidence
from tests.diagnosis.hand_made import (
    BEGIN,
    SECOND,
    SIDECAR,
    call,
    compared,
    evidence,
    past,
    program,
    run_of,
    slow_route,
)

MESH = """\
mesh: {meshName: ml}
virtualNodes:
  - virtualNodeName: v1
    spec:
      listeners:
        - portMapping: {port: 18081, protocol: http}
          timeout: {http: {perRequest: {unit: s, value: 3}}}
      serviceDiscovery: {dns: {hostname: localhost}}
virtualRouters:
  - virtualRouterName: labels
    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
    routes:
      - routeName: by-day
        spec:
          httpRoute:
            match: {prefix: /}
            action: {weightedTargets: [{virtualNode: v1, weight: 1}]}
            retryPolicy:
              maxRetries: 2
              perRetryTimeout: {unit: ms, value: 500}
              httpRetryEvents: [gateway-error]
            timeout:
              perRequest: {unit: s, value: 5}
virtualServices:
  - virtualServiceName: labels.ml.local
    spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
"""
DOCUMENTS = {"mesh-1": ("mesh.yml", MESH)}


def culprit(known: Evidence) -> Culprit:
    """The one culprit of a run that something is wrong with."""
    (only,) = diagnose(known).blamed
    return only


def blamed(known: Evidence) -> list[tuple[str, str | None]]:
    """Cause and target of all that is to blame."""
    return [(one.cause, one.target) for one in diagnose(known).blamed]


def faulty(
    of: str, fields: Mapping[str, object], *, first: int = 1, last: int = 10**6
) -> list[Call]:
    """The program with the calls to one target, from one number to another, made otherwise."""
    return program(
        lambda target, number: fields if target == of and first <= number <= last else None
    )


def test_every_cause_is_documented() -> None:
    """What the answer may say, the list of causes explains."""
    assert {*RULES, "none", *KINDS} == set(CAUSES)


# --- none -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_blames_nobody(seed: int) -> None:
    """With and without a baseline a healthy run has no culprit with a cause."""
    healthy = program(seed=seed)

    assert blamed(evidence(healthy)) == []
    assert blamed(compared(healthy)) == []


def test_a_run_of_many_healthy_calls_waits_on_the_mesh_for_no_cause() -> None:
    """Waiting on healthy calls is the mesh's time and nobody's fault."""
    answer = diagnose(compared(program(seed=9)))

    assert (answer.verdict, {one.cause for one in answer.culprits}) == ("mesh", {"none"})
    assert "Nothing is wrong with the services" in answer.sentence


def test_one_failed_call_of_a_finished_run_is_not_blamed() -> None:
    """A sporadic failure that cost nothing did not make the run slow."""
    assert (
        blamed(compared(faulty("features", {"code": 503, "flags": "UC"}, first=30, last=30))) == []
    )


def test_what_slows_everything_alike_is_nobody_s_fault() -> None:
    """A busy machine makes all calls slower; no target stands out."""
    slower = program(lambda target, _: {"ms": {"records": 60, "features": 45}.get(target, 100)})

    assert blamed(compared(slower)) == []


# --- slow upstream ----------------------------------------------------------------------------


def test_a_target_slower_than_its_baseline_is_blamed() -> None:
    """The slow version of a weighted route is named, its healthy sibling is not."""
    found = culprit(compared(program(slow_route)))

    assert (found.cause, found.target, found.blamed_on) == ("slow_upstream", "v2", "baseline")
    assert found.p95_ms == 950
    assert found.baseline_p95_ms == pytest.approx(47, abs=2)
    assert found.stages == ("processing",)
    assert "time to first byte" in found.detail
    assert "v1 on the same route is healthy" in found.detail


def test_without_a_baseline_a_target_is_compared_with_its_siblings() -> None:
    """Another target of the same route and pattern says what healthy is."""
    answer = diagnose(evidence(program(slow_route)))

    assert [(one.target, one.blamed_on) for one in answer.blamed] == [("v2", "siblings")]
    assert answer.baseline == "siblings on the same route"


def test_slow_baselines_of_the_recent_past_do_not_hide_the_fault() -> None:
    """Runs that were faulty by their own evidence are no baseline, however many they are."""
    faulty_runs = [past(program(slow_route, seed=n), run_id=f"slow-{n}") for n in range(4)]
    recent = (*faulty_runs, past(program(seed=8), run_id="healthy"))
    known = compared(program(slow_route), baseline=recent, baseline_kind="recent")

    assert blamed(known) == [("slow_upstream", "v2")]
    assert diagnose(known).baseline == "run health (healthy)"


def test_one_wild_run_of_several_does_not_move_the_baseline() -> None:
    """The lower median of the recent runs decides."""
    wild = past(faulty("features", {"ms": 900}), run_id="wild")
    recent = (wild, *(past(program(seed=n), run_id=f"run-{n}") for n in range(3)))
    known = compared(faulty("features", {"ms": 400}), baseline=recent, baseline_kind="recent")

    assert blamed(known) == [("slow_upstream", "features")]


def test_a_named_baseline_that_was_faulty_is_used_and_called_so() -> None:
    """Who names a baseline gets it, with what was wrong in it."""
    answer = diagnose(compared(program(slow_route), baseline=(past(program(slow_route, seed=3)),)))

    assert answer.blamed == ()
    assert answer.baseline == "run 9be27a (slow upstream)"


def test_many_short_calls_that_got_slower_are_blamed_and_a_little_noise_is_not() -> None:
    """A few milliseconds matter where they fill the run, else they are a busy machine's."""
    usual = [call(n * 5_000, 3) for n in range(2000)]
    chatty = [call(n * 12_000, 9) for n in range(2000)]
    noisy = faulty("features", {"ms": 31})

    assert blamed(compared(chatty, baseline=(past(usual),))) == [("slow_upstream", "v1")]
    assert blamed(compared(noisy)) == []


def test_a_slower_target_that_costs_the_run_little_is_not_blamed() -> None:
    """Twice as slow matters only where it costs the run something."""
    assert blamed(compared(faulty("v2", {"ms": 90}, last=4))) == []


def test_with_nothing_to_compare_only_a_slow_first_byte_that_fills_the_run_is_blamed() -> None:
    """Absolute evidence: half of the run, four fifths of it to a first byte of a second."""
    slow = [call(n * 2 * SECOND, 1500) for n in range(10)]
    quick = [call(n * SECOND, 800) for n in range(10)]
    rare = [call(n * 9 * SECOND, 1500) for n in range(10)]
    large = [
        call(n * 2 * SECOND, 1500, first_byte_us=9_000, receive_us=1_400_000) for n in range(9)
    ]

    assert [culprit(evidence(slow)).blamed_on] == ["absolute"]
    assert [blamed(evidence(calls)) for calls in (quick, rare, large)] == [[], [], []]


def test_a_long_wait_for_the_pool_is_no_slow_upstream() -> None:
    """Where connections are what is missing, the upstream is not blamed."""
    starved = {"ms": 400, "pool_ready_ms": 380, "to_upstream_us": 380_200, "first_byte_us": 19_000}

    assert blamed(compared(faulty("features", starved))) == [("slow_connection", "features")]


def test_a_slow_target_with_many_patterns_is_one_culprit() -> None:
    """Patterns that cost little each are judged together, and named by the costliest."""
    known = [call(n * 40_000, 25, pattern=f"GET /v1/p{n % 40:02}") for n in range(400)]
    slow = [call(n * 90_000, 80, pattern=f"GET /v1/p{n % 40:02}") for n in range(400)]

    found = culprit(compared(slow, baseline=(past(known),)))

    assert (found.cause, found.calls, len(found.patterns)) == ("slow_upstream", 400, 40)


# --- retry storm ------------------------------------------------------------------------------

STORM = {"ms": 250, "attempts": 3, "to_upstream_us": 230_000, "first_byte_us": 19_000}


def test_calls_tried_again_and_again_are_a_retry_storm() -> None:
    """The time lies in earlier attempts; the attempts say how they ended."""
    calls = faulty("features", STORM)
    retried = [one for one in calls if one.target == "features"]
    attempts = tuple(
        Attempt(
            start_time=one.start_time + at_us,
            observer="egress",
            sidecar_id=SIDECAR,
            request_id=one.request_id,
            attempt=number,
            code=code,
            flags="-",
        )
        for one in retried
        for number, at_us, code in ((1, 100, 503), (2, 90_000, 503), (3, 225_000, 200))
    )

    found = culprit(compared(calls, attempts=attempts, mesh_documents=DOCUMENTS))

    assert (found.cause, found.target, found.retries) == ("retry_storm", "features", 120)
    assert "503 x 120, 200 x 60" in found.detail
    assert found.breakdown["earlier_attempts"] == pytest.approx(60 * 0.225)


def test_per_try_time_outs_count_as_retries_first() -> None:
    """Tries that the per-retry time-out cut are a retry storm, also where all of them were."""
    cut = STORM | {
        "ms": 1600,
        "code": 504,
        "flags": "URX,UT",
        "details": "upstream_per_try_timeout",
    }

    assert blamed(compared(faulty("features", cut))) == [("retry_storm", "features")]


def retried_program(every: int, last: int, earlier_ms: int) -> list[Call]:
    """The program with some feature calls tried twice."""
    again = {
        "ms": 15 + earlier_ms,
        "attempts": 2,
        "to_upstream_us": earlier_ms * 1000,
        "first_byte_us": 14_000,
    }
    return program(lambda t, n: again if t == "features" and n % every == 0 and n <= last else None)


def test_retries_are_blamed_for_what_they_cost_only() -> None:
    """Every sixth call tried again is what retries are for, unless that takes the run's time."""
    assert blamed(compared(retried_program(6, 60, earlier_ms=25))) == []
    assert blamed(compared(retried_program(6, 60, earlier_ms=900))) == [("retry_storm", "features")]


def test_two_retries_are_no_storm() -> None:
    """However long they took."""
    assert blamed(compared(retried_program(6, 12, earlier_ms=900))) == []


def test_retries_that_the_baseline_has_too_are_not_blamed() -> None:
    """A service that always needs a second try did not make this run slow."""
    calls = faulty("features", STORM)

    assert blamed(compared(calls, baseline=(past(calls),))) == []


# --- stuck call -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ({"code": 200}, "it was answered (200)"),
        ({"code": 504, "flags": "UT", "first_byte_us": None}, "a time limit ended it (UT)"),
        ({"code": 0, "flags": "DC", "first_byte_us": None}, "the program gave up (DC)"),
        ({"code": 503, "flags": "UC", "first_byte_us": None}, "it failed (503 UC)"),
    ],
)
def test_one_call_that_hung_is_stuck_however_it_ended(ending: dict[str, object], said: str) -> None:
    """One of many calls hung; what ended it is told, and blamed for nothing."""
    for known in (compared, evidence):
        found = culprit(known(faulty("scoring", {"ms": 30_000, **ending}, first=20, last=20)))

        assert (found.cause, found.target, found.calls) == ("stuck_call", "scoring", 1)
        assert "1 of 40 calls hung for 30.0 s" in found.detail
        assert said in found.detail


def in_flight(age_s: float, **fields: object) -> Evidence:
    """A run that is read while a call has been in flight for so long."""
    calls = program()
    begun = calls[-1].end_time - BEGIN
    open_call = call(
        begun,
        0,
        type="DownstreamPeriodic",
        code=0,
        first_byte_us=None,
        receive_us=None,
        total_us=None,
        details=None,
        **{"target": "scoring", "stage": "scoring", "request_id": "hangs"} | fields,
    )
    read_at = BEGIN + begun + round(age_s * SECOND)
    running = run_of(calls, status="RUNNING", end_time=None)
    return compared(calls, run=running, read_at=read_at, in_flight=(open_call,))


SCORE = {
    "virtual_service": "scoring.ml.local",
    "authority": "scoring.ml.local",
    "route": "score",
    "pattern": "POST /v1/score",
}


def test_a_call_in_flight_for_long_is_stuck() -> None:
    """A run that hangs is explained before its call ends."""
    answer = diagnose(in_flight(40, **SCORE))

    assert [(one.cause, one.target) for one in answer.blamed] == [("stuck_call", "scoring")]
    assert "it is still in flight" in answer.blamed[0].detail
    assert [(one.request_id, one.age_s, one.stage) for one in answer.in_flight] == [
        ("hangs", 40.0, "scoring")
    ]
    assert answer.verdict == "mesh"


def test_a_call_in_flight_for_a_moment_is_not_stuck() -> None:
    """Reading while a call runs does not blame that call."""
    assert diagnose(in_flight(0.5, **SCORE)).blamed == ()


def test_a_first_call_with_nothing_to_compare_is_stuck_after_half_a_minute() -> None:
    """A call to a place never seen before needs more patience."""
    never_seen = SCORE | {"pattern": "POST /v1/train"}

    assert [diagnose(in_flight(age, **never_seen)).blamed == () for age in (29, 31)] == [
        True,
        False,
    ]


def test_many_calls_that_hang_are_a_slow_upstream() -> None:
    """Where every call takes long, none of them is stuck."""
    assert blamed(compared(faulty("scoring", {"ms": 4000}))) == [("slow_upstream", "scoring")]


def test_some_calls_that_hang_are_a_slow_upstream_too() -> None:
    """A quarter of the calls is more than a few."""
    calls = program(lambda t, n: {"ms": 4000} if t == "scoring" and n % 4 == 0 else None)

    assert blamed(compared(calls)) == [("slow_upstream", "scoring")]


# --- refused identity -------------------------------------------------------------------------

CUT = {
    "ms": 4,
    "code": 503,
    "flags": "UC",
    "details": "upstream_reset_before_response_started{connection_termination}",
    "first_byte_us": None,
    "pause_ms": 1000,
}
REASON = "TLS_error:|268435581:SSL_routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE"


def refusals(calls: list[Call], *, late_us: int = 1000) -> tuple[Connection, ...]:
    """The listener lines of the node that refused these calls."""
    return tuple(
        Connection(
            start_time=one.start_time + late_us,
            observer="ingress",
            sidecar_id="features-1",
            virtual_node="features",
            downstream_address=one.upstream_local_address,
            failure=REASON,
            duration_ms=2,
        )
        for one in calls
        if one.flags == "UC"
    )


def test_a_node_that_refuses_the_client_is_named_with_its_reason() -> None:
    """503 UC and a refused connection from the same address at the same time are one thing."""
    calls = faulty("features", CUT)

    found = culprit(compared(calls, connections=refusals(calls)))

    assert (found.cause, found.target, found.errors) == ("refused_identity", "features", 60)
    assert found.wait_s < 0.5
    assert found.cost_s > 50
    assert "features does not accept the certificate of churn-training" in found.detail
    assert "no certificate was shown" in found.detail
    assert "60 of them found in the log of features" in found.detail


@pytest.mark.parametrize(("listed", "said"), [("churn-training", True), ("other", False)])
def test_a_mesh_file_that_lists_the_refused_client_is_not_the_node_s(
    listed: str, *, said: bool
) -> None:
    """If the caller's file says that it is accepted, the node was started with another."""
    tls = (
        "tls: {mode: STRICT, certificate: {sds: {secretName: v1}}, "
        "validation: {trust: {sds: {secretName: ml}}, subjectAlternativeNames: "
        f'{{match: {{exact: ["spiffe://ml/{listed}"]}}}}}}}}'
    )
    text = MESH.replace("timeout: {http: {perRequest: {unit: s, value: 3}}}", tls)
    calls = faulty("v1", CUT)

    found = culprit(
        compared(calls, connections=refusals(calls), mesh_documents={"mesh-1": ("mesh.yml", text)})
    )

    assert (found.mesh_line or "").startswith("mesh.yml:7 ")
    assert ("v1 runs with another" in found.detail) is said


def test_one_refusal_that_ended_a_run_is_named() -> None:
    """A program that fails on its first refused call waited for nothing; it has a culprit."""
    calls = program()[:100]
    begun = calls[-1].end_time - BEGIN
    last = call(begun, 4, **{k: v for k, v in CUT.items() if k not in {"ms", "pause_ms"}})
    run = run_of([*calls, last], status="FAILED")

    found = culprit(compared([*calls, last], run=run, connections=refusals([last])))

    assert (found.cause, found.calls) == ("refused_identity", 1)


def test_a_refusal_from_another_address_or_time_proves_nothing() -> None:
    """Without a listener line that matches, 503 UC is an upstream that broke off."""
    calls = faulty("features", CUT)
    elsewhere = tuple(replace(one, downstream_address="10.0.0.9:1") for one in refusals(calls))
    long_ago = refusals(calls, late_us=-3600 * SECOND)

    for connections in (elsewhere, long_ago):
        assert blamed(compared(calls, connections=connections)) == [("upstream_error", "features")]


def test_a_client_that_refuses_the_node_is_told_from_one_that_cannot_connect() -> None:
    """UF with a certificate's failure is an identity; UF with a refused connection is none."""
    san = (
        "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"
        "verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[spiffe://ml/other]:TLS_error_end"
    )
    unsent = {"ms": 3, "code": 503, "flags": "UF", "first_byte_us": None, "to_upstream_us": None}
    down = unsent | {"upstream_failure": "delayed_connect_error:_Connection_refused"}
    refused = culprit(compared(faulty("features", unsent | {"upstream_failure": san})))
    away = culprit(compared(faulty("features", down)))

    assert (refused.cause, away.cause) == ("refused_identity", "connect_failure")
    assert "churn-training does not accept the certificate of features" in refused.detail
    assert "not on the list of accepted names" in refused.detail
    assert "Connection_refused" in away.detail


# --- policy time-outs -------------------------------------------------------------------------

LIMIT = {"ms": 500, "code": 504, "first_byte_us": None}


def limited(**fields: object) -> Evidence:
    """A run whose calls to v1 were cut off at half a second."""
    calls = program(lambda target, _: LIMIT | fields if target == "v1" else None)
    return compared(calls, mesh_documents=DOCUMENTS)


@pytest.mark.parametrize(
    ("fields", "limit", "line"),
    [
        ({"flags": "UT", "details": "response_timeout"}, "perRequest of route by-day, 5 s", 23),
        (
            {"flags": "UT", "details": "upstream_per_try_timeout"},
            "perRetryTimeout of route by-day, 0.5 s",
            20,
        ),
        (
            {"flags": "-", "origin": "server-sidecar", "origin_flags": "UT"},
            "perRequest of the listener of v1, 3 s",
            7,
        ),
    ],
)
def test_the_limit_that_ended_the_calls_is_named_with_its_line(
    fields: dict[str, object], limit: str, line: int
) -> None:
    """Whose time-out it was, its value, and where the mesh file says so."""
    found = culprit(limited(**fields))

    assert (found.cause, found.target) == ("policy_timeout", "v1")
    assert limit in found.detail
    assert (found.mesh_line or "").startswith(f"mesh.yml:{line} ")


def test_a_limit_that_the_file_leaves_out_is_app_mesh_s_default() -> None:
    """Where no time-out is declared, fifteen seconds hold, and the route's line is named."""
    text = MESH.replace("            timeout:\n              perRequest: {unit: s, value: 5}\n", "")
    known = limited(flags="UT", details="response_timeout")

    found = culprit(replace(known, mesh_documents={"mesh-1": ("mesh.yml", text)}))

    assert "15 s (the default)" in found.detail
    assert (found.mesh_line or "").startswith("mesh.yml:")


def test_a_service_that_a_node_provides_has_app_mesh_s_default() -> None:
    """Without a route there is no time-out of its own, and the provider's line is named."""
    router = "{virtualRouter: {virtualRouterName: labels}}"
    text = MESH.replace(router, "{virtualNode: {virtualNodeName: v1}}")
    known = limited(flags="UT", details="response_timeout")

    found = culprit(replace(known, mesh_documents={"mesh-1": ("mesh.yml", text)}))

    assert "perRequest of virtual service labels.ml.local, 15 s (the default)" in found.detail
    assert (found.mesh_line or "").startswith("mesh.yml:26 ")


@pytest.mark.parametrize("document", ["", "mesh: {", "mesh: {meshName: ml}", "\x00"])
def test_a_mesh_that_says_nothing_of_the_call_gives_no_line(document: str) -> None:
    """An unreadable or foreign mesh file does not stand in the way of the diagnosis."""
    known = limited(flags="UT", details="response_timeout")

    found = culprit(replace(known, mesh_documents={"mesh-1": ("mesh.yml", document)}))

    assert (found.cause, found.mesh_line) == ("policy_timeout", None)


def test_the_application_s_own_504_is_no_policy_of_the_mesh() -> None:
    """Only the proxies' own flags tell of a limit."""
    assert [one.cause for one in diagnose(limited(flags="-")).blamed] == ["upstream_error"]


# --- errors that end or stall a run -----------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 404, "flags": "NR", "route": None},
        {"code": 403, "details": "direct_response", "route": "meshml:drop-all"},
        {"code": 503, "details": "direct_response", "route": "meshml:no-provider"},
    ],
)
def test_a_host_outside_the_mesh_has_no_route(answer: dict[str, object]) -> None:
    """What the caller's own proxy answers is the mesh's word, not the service's."""
    outside = {"virtual_service": None, "target": None, "authority": "host.test"}
    lost = [call(n * SECOND, 1, **outside | answer) for n in range(5)]

    found = culprit(evidence([*lost, *(call(n * SECOND + 9_000, 40) for n in range(5))]))

    assert (found.cause, found.virtual_service) == ("no_route", "host.test")


def test_a_proxy_that_asks_for_its_token_is_no_failure() -> None:
    """Some programs send the token only after a 407."""
    asked = {"code": 407, "details": "direct_response", "route": "meshml:no-token", "target": None}

    assert blamed(compared([*program(), *(call(n, 1, **asked) for n in range(9))])) == []


def test_the_application_s_own_404_is_an_answer() -> None:
    """A code below 500 is no failure of the mesh."""
    assert blamed(compared(faulty("features", {"code": 404}))) == []


def test_two_failed_calls_that_cost_nothing_are_not_blamed() -> None:
    """Not even where they are most of the calls to a place."""
    probes = [
        call(n * SECOND + 500_000, 2, pattern="GET /ready", code=503 if n < 2 else 200)
        for n in range(3)
    ]

    assert blamed(compared([*program(), *probes])) == []


def test_errors_that_the_baseline_has_too_are_not_blamed() -> None:
    """What fails alike in a healthy run did not make this one slow."""
    failing = faulty("features", {"code": 500})

    assert blamed(compared(failing, baseline=(past(failing),))) == []
    assert blamed(compared(failing)) == [("upstream_error", "features")]


def ended(status: str, *, after_s: float = 0.1) -> Evidence:
    """A run whose last call failed, with the program's own work after it."""
    calls = faulty("scoring", {"code": 500}, first=40, last=40)
    run = run_of(calls, status=status, end_time=calls[-1].end_time + round(after_s * SECOND))
    return compared(calls, run=run)


def test_a_failure_that_ended_the_run_is_blamed_and_one_it_survived_is_not() -> None:
    """One failed call is enough where the run broke off right after it."""
    assert blamed(ended("FAILED")) == [("upstream_error", "scoring")]
    assert blamed(ended("FINISHED")) == []
    assert blamed(ended("FAILED", after_s=300)) == []


def test_what_ended_the_run_ranks_before_what_made_it_slow() -> None:
    """A run that failed is explained by its failure first."""
    calls = program(
        lambda t, n: slow_route(t, n) or ({"code": 500} if (t, n) == ("scoring", 40) else None)
    )

    answer: Diagnosis = diagnose(compared(calls, run=run_of(calls, status="FAILED")))

    assert [(one.rank, one.cause) for one in answer.blamed] == [
        (1, "upstream_error"),
        (2, "slow_upstream"),
    ]


def test_pauses_that_were_the_program_s_own_work_are_no_cost_of_a_failure() -> None:
    """Time between two failed calls counts only as far as the program used no CPU in it."""
    calls = faulty("features", {"code": 500, "pause_ms": 1000})

    idle, busy = (culprit(compared(calls, cpu_s=cpu_s)) for cpu_s in (0.0, 1000.0))

    assert idle.pause_s == pytest.approx(59, abs=1)
    assert busy.pause_s == 0.0


def test_faults_rank_by_what_they_cost_beyond_healthy() -> None:
    """The longest wait is not the largest cost."""
    calls = program(
        lambda t, _: {"ms": 900} if t == "features" else {"ms": 400} if t == "scoring" else None
    )

    answer = diagnose(compared(calls))

    assert [one.target for one in answer.blamed] == ["features", "scoring"]
    assert answer.blamed[0].cost_s > answer.blamed[1].cost_s


def test_a_call_has_one_cause() -> None:
    """The culprits' waits and calls never count a call twice."""
    calls = program(
        lambda t, n: (
            slow_route(t, n)
            or (STORM if t == "features" and n % 2 else None)
            or ({"ms": 9000} if (t, n) == ("scoring", 7) else None)
        )
    )

    answer = diagnose(compared(calls))

    assert {one.cause for one in answer.blamed} == {"slow_upstream", "retry_storm", "stuck_call"}
    assert sum(one.wait_s for one in answer.culprits) <= answer.wait_s + 1e-9
    assert sum(row.wait_us for row in answer.wait_rows) == answer.wait_us
    assert sum(row.calls for row in answer.wait_rows) == len(calls)
