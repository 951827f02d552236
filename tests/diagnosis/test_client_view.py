"""Calls that the calling process recorded itself: the same causes, in words that fit."""

from dataclasses import replace

import numpy as np
import pytest

from meshml_dbx.diagnosis import Culprit, Diagnosis, diagnose
from meshml_dbx.diagnosis.breakdown import PARTS, break_down
from meshml_dbx.diagnosis.report import marked_paths, render_page, waits_by_path
from meshml_dbx.diagnosis.sheet import culprit_rows, sheet_of
from meshml_dbx.diagnosis.table import table_of
from meshml_dbx.diagnosis.tries import tried_before
from meshml_dbx.diagnosis.verdict import NO_PROXYS_VIEW
from meshml_dbx.flowmap import flow_of, to_narrow_svg, to_svg
from meshml_dbx.traffic.call import Attempt, Call
from meshml_dbx.traffic.evidence import CallColumns, Ledger
from tests.diagnosis.client_made import RECORDER, REFUSED, TIMED_OUT, own, row_of, tried
from tests.diagnosis.hand_made import BEGIN, SECOND, call, evidence, past, program, run_of

WHOLE = (BEGIN, BEGIN + 10**12)


def answer(calls: list[Call], **changes: object) -> Diagnosis:
    """The diagnosis of a run with these calls that used hardly any CPU."""
    return diagnose(evidence(calls, **{"cpu_s": 0.1} | changes))


def culprit(calls: list[Call], **changes: object) -> Culprit:
    """The one culprit of such a run."""
    (only,) = answer(calls, **changes).blamed
    return only


def parts_of(*calls: Call, attempts: tuple[Attempt, ...] = ()) -> list[dict[str, int]]:
    """The parts of each call that are not nothing."""
    table = table_of(CallColumns.of(calls), span=WHOLE)
    parts = break_down(table, attempts)
    assert np.sum(list(parts.values()), axis=0).tolist() == table.duration.tolist()
    return [
        {name: int(parts[name][row]) for name in PARTS if parts[name][row]}
        for row in range(len(calls))
    ]


# --- where the time went ----------------------------------------------------------------------


def test_a_call_without_a_time_of_sending_has_its_first_byte_and_transfer() -> None:
    """What the library tells is taken as it is, and the rest is the library's own."""
    (parts,) = parts_of(own(0, 50, first_byte_us=30_000, receive_us=15_000))

    assert parts == {"first_byte": 30_000, "transfer": 15_000, "other": 5_000}


def test_the_call_that_opened_a_connection_carries_its_times() -> None:
    """Also where the connection has no number and the pool tells no time."""
    opened = own(
        0,
        50,
        connect_us=3_000,
        tls_us=9_000,
        first_byte_us=30_000,
        receive_us=0,
        upstream_connection_id=None,
    )

    (parts,) = parts_of(opened)

    assert parts == {"connect": 3_000, "tls": 9_000, "first_byte": 30_000, "other": 8_000}


def test_an_answer_that_never_came_was_waited_for() -> None:
    """A request that a time-out cut had been sent, though no line says when."""
    assert parts_of(own(0, 2000, **TIMED_OUT)) == [{"first_byte": 2_000_000}]


def test_an_answer_that_broke_off_was_in_transfer() -> None:
    """After the first byte all that is left of a failed call is its transfer."""
    cut = own(0, 900, flags="UC", first_byte_us=100_000, receive_us=None)

    assert parts_of(cut) == [{"first_byte": 100_000, "transfer": 800_000}]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"flags": "DF"}, "connect"),
        ({"flags": "UF"}, "connect"),
        ({"flags": "UO"}, "pool_wait"),
    ],
)
def test_a_call_that_got_no_connection_waited_for_one(fields: dict[str, object], part: str) -> None:
    """A name that is not resolved and a pool without a free connection are no slow service."""
    assert parts_of(own(0, 1000, **REFUSED | fields)) == [{part: 1_000_000}]


def test_a_handshake_that_failed_took_what_came_after_the_connection() -> None:
    """The connection was there: the rest was TLS."""
    failed = own(0, 40, connect_us=5_000, **REFUSED | {"upstream_failure": "TLS_error:EOF"})

    assert parts_of(failed) == [{"connect": 5_000, "tls": 35_000}]


def test_tries_within_one_call_lie_before_the_last() -> None:
    """The recorder writes the tries of a call as a proxy does."""
    retried = own(0, 900, attempts=3, first_byte_us=190_000, receive_us=0)
    lines = tuple(
        Attempt(
            start_time=BEGIN + at_us,
            observer="client",
            sidecar_id=RECORDER,
            request_id=retried.request_id,
            attempt=number,
        )
        for number, at_us in ((1, 0), (2, 300_000), (3, 700_000))
    )

    (with_lines,) = parts_of(retried, attempts=lines)
    (without,) = parts_of(retried)

    assert with_lines == {"earlier_attempts": 700_000, "first_byte": 190_000, "other": 10_000}
    assert without == {"earlier_attempts": 710_000, "first_byte": 190_000}


# --- tries by a layer above -------------------------------------------------------------------


def storm(times: int = 10) -> list[Call]:
    """Things that were each answered at the third try, half a second apart."""
    return [
        one
        for number in range(times)
        for one in tried((503, 503, 200), at_us=number * 2 * SECOND, ms=30, pause_ms=500)
    ]


def test_a_later_try_is_matched_with_what_failed_before_it() -> None:
    """By thing and process, in order of time; what did not fail is not tried again."""
    calls = [*tried((503, 429, 200)), own(100, 30, code=503), own(1_800_000, 30)]
    table = table_of(CallColumns.of(calls), span=WHOLE)
    at = {call.start_time: number for number, call in enumerate(sorted(calls, key=_start))}

    found = tried_before(table)

    first, second, third = (at[one.start_time] for one in calls[:3])
    assert [int(found[row]) for row in (second, third)] == [first, second]
    assert sorted(found.tolist())[:3] == [-1, -1, -1]


def _start(one: Call) -> int:
    return one.start_time


def test_two_processes_number_their_things_for_themselves() -> None:
    """The same hash in another process is another thing."""
    lost = own(0, 30, code=503, resource=7)
    later = own(SECOND, 30, attempt=2, resource=7, sidecar_id="worker-2")
    table = table_of(CallColumns.of([lost, later]), span=WHOLE)

    assert tried_before(table).tolist() == [-1, -1]


def test_tries_of_a_layer_above_are_a_retry_storm() -> None:
    """Failed tries cost their wait and the pauses after them; the answered ones nothing more."""
    found = culprit(storm())

    assert (found.cause, found.retries, found.calls, found.errors) == ("retry_storm", 20, 30, 20)
    assert found.cost_s == pytest.approx(10 * 2 * (0.03 + 0.5))
    assert found.wait_s == pytest.approx(0.9)
    assert "20 retries of 10 calls, made by the program or its libraries" in found.detail
    assert "they ended 503 x 20" in found.detail
    assert found.mesh_line is None


def test_what_was_throttled_and_tried_again_is_a_storm_too() -> None:
    """429 is no failure of the service; the pauses that it causes are lost all the same."""
    calls = [
        one for n in range(10) for one in tried((429, 429, 200), at_us=n * 2 * SECOND, pause_ms=500)
    ]

    found = culprit(calls)

    assert (found.cause, found.retries) == ("retry_storm", 20)
    assert found.cost_s == pytest.approx(10 * 2 * (0.03 + 0.5))
    assert "429 x 20" in found.detail


def test_calls_that_failed_at_every_try_are_counted() -> None:
    """A storm that ends in failure says so."""
    calls = [one for n in range(5) for one in tried((503, 503, 503), at_us=n * 3 * SECOND)]

    assert "5 calls failed all the same" in culprit(calls).detail


def test_pauses_of_tries_at_the_same_time_count_once() -> None:
    """Eight threads that sleep together cost the run one sleep."""
    calls = [one for _ in range(8) for one in tried((503, 200), pause_ms=2000)]

    assert culprit(calls).pause_s == pytest.approx(2.0, abs=0.01)


def test_a_pause_in_which_other_calls_ran_is_none() -> None:
    """What the program did meanwhile was no loss."""
    busy = row_of(400, ms=20, pause_ms=0, pattern="GET /other")

    assert culprit([*tried((503, 503, 503, 503), pause_ms=1000), *busy]).pause_s == 0.0


def test_two_tries_are_no_storm() -> None:
    """Sporadic failures are what retries are for."""
    quiet = row_of(100, pause_ms=50, start_us=4 * SECOND)

    assert answer([*tried((503, 200)), *quiet]).blamed == ()


def test_a_baseline_that_tries_as_often_excuses_it() -> None:
    """A service that always needs three tries did not make this run slow."""
    assert answer(storm(), baseline=(past(storm()),), baseline_kind="named").blamed == ()


def test_tries_within_one_call_are_a_storm_as_with_a_proxy() -> None:
    """urllib3 tries within one call, which the recorder counts."""
    calls = [own(n * SECOND, 800, attempts=3, first_byte_us=20_000) for n in range(10)]

    found = culprit(calls)

    assert (found.cause, found.retries) == ("retry_storm", 20)
    assert "earlier attempts and back-off are 97 % of the retried calls" in found.detail


def test_a_proxy_s_own_count_of_tries_is_not_counted_twice() -> None:
    """Its ``attempt`` is the number of the last try."""
    table = table_of(
        CallColumns.of([call(0, 9, attempts=3, attempt=3), call(9, 9, attempt=2)]), span=WHOLE
    )

    assert table.retries.tolist() == [2, 0]


def test_the_page_marks_all_calls_of_a_storm() -> None:
    """The tries that failed and the later ones are both the culprit's."""
    known = evidence(storm(), cpu_s=0.1)
    (found,) = diagnose(known).blamed

    assert int(culprit_rows(sheet_of(known), found).sum()) == found.calls == 30


def test_the_picture_counts_the_same_retries() -> None:
    """Answer and picture agree."""
    (path,) = flow_of(CallColumns.of(storm())).paths

    assert path.numbers.retries == 20


def test_the_picture_ends_at_the_hosts_and_marks_the_culprit_alone() -> None:
    """Nobody knows a route or a target of these calls, so none is drawn that all have in common."""
    known = evidence([*storm(), *row_of(9, virtual_service="other.test")], cpu_s=0.1)
    told = diagnose(known)
    flow = flow_of(known.calls, waits=waits_by_path(told), marked=marked_paths(told))

    culprits = [stop.place.name for stop in flow.stops if stop.is_culprit]
    assert culprits == ["features.test"]
    assert {stop.place.column for stop in flow.stops} == {"client", "virtual_service"}
    for picture in (to_svg(flow), to_narrow_svg(flow)):
        assert "no target" not in picture
        assert picture.count(">culprit") == 1


# --- other causes -----------------------------------------------------------------------------


def test_the_program_s_own_time_out_names_its_exception_and_no_mesh_line() -> None:
    """No mesh file can hold that limit; it is about as long as the calls."""
    calls = [
        own(n * 3 * SECOND, 2000 if n % 2 else 20, **(TIMED_OUT if n % 2 else {}))
        for n in range(40)
    ]

    found = culprit(calls)

    assert (found.cause, found.calls, found.mesh_line) == ("policy_timeout", 20, None)
    assert found.detail == (
        "20 of 40 calls cut off by the program's own time-out "
        "(urllib3.exceptions.ReadTimeoutError) after about 2.0 s"
    )


def test_a_mesh_file_that_names_the_hosts_has_no_line_for_the_program_s_own_time_out() -> None:
    """Its default holds in a proxy, and none was there."""
    text = """\
mesh: {meshName: ml}
virtualNodes:
  - virtualNodeName: v1
    spec: {listeners: [{portMapping: {port: 18081, protocol: http}}]}
virtualServices:
  - virtualServiceName: labels.ml.local
    spec: {provider: {virtualNode: {virtualNodeName: v1}}}
"""
    place = {"virtual_service": "labels.ml.local", "target": "v1"}
    calls = [own(n * 3 * SECOND, 2000, **TIMED_OUT | place) for n in range(9)]
    documents = {"mesh-1": ("mesh.yml", text)}

    found = culprit(calls, mesh_documents=documents)
    by_proxy = culprit([replace(one, observer="egress") for one in calls], mesh_documents=documents)

    assert (found.cause, by_proxy.cause) == ("policy_timeout", "policy_timeout")
    assert found.mesh_line is None
    assert (by_proxy.mesh_line or "").startswith("mesh.yml:")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            "TLS_error:SSLV3_ALERT_CERTIFICATE_UNKNOWN",
            "features.test does not accept the certificate of churn-training, by its TLS alert",
        ),
        (
            "TLS_error:TLSV13_ALERT_CERTIFICATE_REQUIRED",
            "by its TLS alert: no certificate was shown",
        ),
        (
            "TLS_error:CERTIFICATE_VERIFY_FAILED:certificate_has_expired",
            "churn-training does not accept the certificate of features.test: "
            "the certificate has expired",
        ),
        (
            "TLS_error:CERTIFICATE_VERIFY_FAILED:Hostname_mismatch",
            "the certificate is for another name",
        ),
    ],
)
def test_the_side_that_refused_is_named(failure: str, said: str) -> None:
    """An alert is the other side's word, a failed check is the program's own."""
    calls = [own(n * SECOND, 5, **REFUSED | {"upstream_failure": failure}) for n in range(5)]

    found = culprit(calls)

    assert found.cause == "refused_identity"
    assert said in found.detail
    assert found.detail.endswith("5 of 5 calls refused")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"flags": "DF", "details": "urllib3.exceptions.NameResolutionError"},
            "the name is not resolved x 5 (urllib3.exceptions.NameResolutionError)",
        ),
        (
            {"details": "urllib3.exceptions.NewConnectionError"},
            "nothing accepted the connection x 5 (urllib3.exceptions.NewConnectionError)",
        ),
        (
            {"upstream_failure": "TLS_error:WRONG_VERSION_NUMBER"},
            "the TLS handshake failed x 5 (plain text was spoken where TLS is asked for",
        ),
        ({"flags": "UO"}, "no connection of the pool was free x 5"),
    ],
)
def test_a_missing_connection_says_what_was_missing(fields: dict[str, object], said: str) -> None:
    """The name, somebody who listens, TLS, or room in the pool."""
    found = culprit([own(n * SECOND, 5, **REFUSED | fields) for n in range(5)])

    assert found.cause == "connect_failure"
    assert said in found.detail


def test_an_answer_that_broke_off_is_an_error_whatever_its_code() -> None:
    """Only the reader knows that the body never ended."""
    cut = {"flags": "UC", "details": "http.client.IncompleteRead", "receive_us": None}

    found = culprit([own(n * SECOND, 300, **cut) for n in range(9)])

    assert (found.cause, found.errors) == ("upstream_error", 9)
    assert "200 UC x 9" in found.detail


def test_connections_that_became_slow_are_named() -> None:
    """A handshake on every call, where the baseline had quick ones."""
    quick = [own(n * SECOND, 30, connect_us=1_000, first_byte_us=25_000) for n in range(20)]
    slow = [
        own(n * SECOND, 430, connect_us=1_000, tls_us=400_000, first_byte_us=25_000)
        for n in range(20)
    ]

    found = culprit(slow, baseline=(past(quick),), baseline_kind="named")

    assert (found.cause, found.blamed_on) == ("slow_connection", "baseline")


def test_a_call_in_flight_is_stuck_and_its_process_may_have_died() -> None:
    """It hangs as a proxy's would; where the recorder died, its process did."""
    begun = 4 * SECOND
    for kind, said in (("DownstreamPeriodic", "still in flight"), ("Unfinished", "process died")):
        flying = own(begun, 0, type=kind, code=0, total_us=None, duration_ms=40_000)
        running = run_of([], status="RUNNING", end_time=None)
        told = answer(
            row_of(100), run=running, read_at=BEGIN + begun + 40 * SECOND, in_flight=(flying,)
        )

        assert [one.cause for one in told.blamed] == ["stuck_call"]
        assert said in told.text
        assert "proxy died" not in told.text


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "cpu_s"), [(storm(), 0.1), (row_of(200), 0.1), (row_of(9), 99.0), (row_of(9), 0.0)]
)
def test_without_a_proxy_nothing_speaks_of_a_mesh(calls: list[Call], cpu_s: float) -> None:
    """Who has no mesh reads of calls and of the recorder, in the answer and on the page."""
    known = evidence(
        calls,
        cpu_s=cpu_s,
        run=run_of(calls, end_time=BEGIN + 60 * SECOND),
        ledger=Ledger(proxied=len(calls), rows=len(calls)),
    )
    told = diagnose(known)
    page = render_page(told, known, picture="")

    assert f"recorded {len(calls)} · rows {len(calls)}" in told.text
    assert "on calls" in told.text
    assert "on calls" in page
    for text in (told.text, told.sentence, page):
        assert "mesh " not in text.replace("meshml ", "")
        assert "proxied" not in text


def test_the_key_of_the_ledger_stays() -> None:
    """Programs read ``proxied`` whoever counted."""
    told = answer(row_of(9), ledger=Ledger(proxied=9, rows=9)).to_json()

    assert told["ledger"] == {
        "sent": None,
        "proxied": 9,
        "rows": 9,
        "quarantined": 0,
        "lost": 0,
        "explained": [],
    }


def test_one_call_that_a_proxy_saw_makes_it_a_mesh_s_run() -> None:
    """A run of both kinds is told in the mesh's words."""
    assert "on the mesh" in answer([*row_of(9), call(SECOND, 9)]).text


def test_what_only_a_proxy_sees_is_not_seen_and_changes_no_verdict() -> None:
    """It is always in the account; the verdict is the same as with a proxy."""
    calls = row_of(200)
    proxied = [replace(one, observer="egress") for one in calls]

    told, other = answer(calls), answer(proxied)

    assert told.coverage.not_seen == (NO_PROXYS_VIEW,)
    assert other.coverage.not_seen == ()
    assert told.verdict == other.verdict == "mesh"


@pytest.mark.parametrize(("pause_ms", "shown"), [(2, False), (100, True)])
def test_the_answer_says_so_where_time_is_unexplained(pause_ms: int, *, shown: bool) -> None:
    """Where waits explain the run, the line would only be in the way."""
    assert (f"not seen: {NO_PROXYS_VIEW}" in answer(row_of(200, pause_ms=pause_ms)).text) is shown


def test_calls_that_the_recorder_dropped_are_not_seen() -> None:
    """What it counted and could not write is said to be the recorder's."""
    told = answer(row_of(9), ledger=Ledger(proxied=12, rows=9, lost=3))

    assert "3 calls that the recorder counted and no line tells of" in told.coverage.not_seen


# --- the query --------------------------------------------------------------------------------


def test_the_query_asks_for_the_rows_of_the_run_s_own_observer() -> None:
    """A client's calls are found as a client's, a proxy's as a proxy's, and both where both are."""
    failing = {"code": 500, "pattern": "GET /x", "route": None, "target": None}
    client = [own(n * SECOND, 9, **failing) for n in range(9)]
    proxied = [replace(one, observer="egress", request_id=f"p{one.request_id}") for one in client]

    sql = [culprit(calls).sql for calls in (client, proxied, [*client, *proxied])]

    assert ["c.observer = 'client'" in sql[0], "c.observer = 'egress'" in sql[1]] == [True, True]
    assert "c.observer IN ('client', 'egress')" in sql[2]


def test_the_query_of_a_storm_finds_tries_that_are_calls_of_their_own() -> None:
    """None of them has more than one attempt."""
    assert "c.attempt > 1" in culprit(storm(30)).sql


def test_the_same_faults_have_the_same_causes_seen_by_the_process_itself() -> None:
    """The program of the other tests, with a slow service, recorded without a proxy."""

    def recorded(calls: list[Call]) -> list[Call]:
        return [
            replace(
                one,
                observer="client",
                route=None,
                target=None,
                mesh_version=None,
                to_upstream_us=None,
            )
            for one in calls
        ]

    slow = program(lambda target, _: {"ms": 600} if target == "features" else None)
    told = answer(
        recorded(slow), baseline=(past(recorded(program(seed=2))),), baseline_kind="named"
    )

    assert [(one.cause, one.virtual_service) for one in told.blamed] == [
        ("slow_upstream", "features.ml.local")
    ]
