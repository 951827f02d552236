"""Calls through two real sidecars: where they go, what policies do to them, what is written."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from meshml_dbx.mesh.names import mesh_version
from meshml_dbx.mesh.routing import match_request
from meshml_dbx.traffic.access_log import call_of
from meshml_dbx.traffic.call import Call
from tests.planes.envoy_world import TOKEN, Answer, Caller, Reply, Request, World, labels_world

pytestmark = pytest.mark.envoy


def answer(request: Request) -> Reply:
    """Fails or waits as the caller's headers ask, the first ``x-times`` times of a request id."""
    number = int(request.headers.get("x-envoy-attempt-count", "1"))
    if number > int(request.headers.get("x-times", "99")):
        return Reply()
    forged = {"x-meshml-origin": "forged", "x-meshml-flags": "UC"}
    return Reply(
        code=int(request.headers.get("x-code", "200")),
        wait_s=float(request.headers.get("x-wait", "0")),
        headers=forged if "x-forge" in request.headers else {},
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One client, two nodes, one program that all tests here share."""
    with labels_world(tmp_path_factory.mktemp("calls"), answer) as made:
        yield made


def call(world: World, url: str, method: str = "GET", **headers: str) -> Answer:
    """One call of the client's program, on a connection of its own."""
    with closing(Caller(world.client.egress_port)) as caller:
        return caller.call(url, method, **headers)


# --- what is written --------------------------------------------------------------------------


def test_a_call_leaves_four_records(world: World) -> None:
    """The caller's sidecar writes start, attempt and end, the called node's one its own end."""
    got = call(world, "http://direct.ml.local/v1/x")
    end, served = world.client.end_of(got.request_id), world.v1.end_of(got.request_id)
    (attempt,) = world.client.attempts_of(got.request_id, 1)
    (start,) = world.client.wait_for(_type="DownstreamStart", request_id=got.request_id)
    version = mesh_version(world.mesh)
    expected = ("egress", "churn-training", "direct.ml.local", "labels-v1", "labels-v1", version)
    assert got.code == 200
    for seen in (call_of(start), attempt, end):
        told = (seen.observer, seen.client, seen.virtual_service, seen.route, seen.target)
        assert (*told, seen.mesh_version) == expected
    assert (end.code, end.attempts, end.upstream_peer) == (200, 1, "spiffe://ml/labels-v1")
    assert (served.observer, served.client, served.virtual_node) == ("ingress", None, "labels-v1")
    assert (served.target, served.mesh_version, served.code) == ("labels-v1", version, 200)
    assert served.downstream_peer == "spiffe://ml/churn-training"
    assert end.upstream_local_address == served.downstream_address


def test_literals_are_written_as_they_are(world: World) -> None:
    """A literal with percent signs is no operator of Envoy's formatter."""
    end = world.client.end_of(call(world, "http://direct.ml.local/v1/x").request_id)
    told = (end.mesh, end.sidecar_id, end.environment)
    assert told == ("ml", "churn-training-0a1b2c3d", "100 %PROTOCOL% dev")


def test_no_secret_of_a_request_is_written(world: World) -> None:
    """Query values, cookies, credentials and the token appear in no line of any sidecar."""
    got = call(
        world,
        "http://direct.ml.local/v1/x?key=q-secret",
        cookie="session=c-secret",
        authorization="Bearer a-secret",
    )
    end = world.client.end_of(got.request_id)
    world.v1.end_of(got.request_id)
    text = "".join((it.folder / "access.jsonl").read_text() for it in (world.client, world.v1))
    assert end.path == "/v1/x"
    assert [it for it in ("q-secret", "c-secret", "a-secret", TOKEN, "Basic ") if it in text] == []


def test_a_call_in_flight_is_written_before_it_ends(world: World) -> None:
    """A start line and a line a second tell of a call that is not over."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            call, world, "http://direct.ml.local/slow", x_wait="2.6", x_request_id="in-flight"
        )
        world.client.wait_for(_type="DownstreamPeriodic", request_id="in-flight")
        in_flight = world.client.types_of("in-flight")
        assert waiting.result().code == 200
    (periodic, *_) = world.client.wait_for(2, _type="DownstreamPeriodic", request_id="in-flight")
    assert in_flight == ["DownstreamStart", "DownstreamPeriodic"]
    assert call_of(periodic).target == "labels-v1"
    assert call_of(periodic).duration_ms in range(900, 1400)
    world.client.end_of("in-flight")


# --- where calls go ---------------------------------------------------------------------------

NOT_MARKED = {"x_mark": "no"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "route"),
    [
        ("GET", "/v1/labels/7?day=1", NOT_MARKED, "by-day"),
        ("GET", "/v1/labelsX", NOT_MARKED, "by-day"),
        ("GET", "/v1/labels/all", NOT_MARKED, "whole-path"),
        ("GET", "/v1/labels/all?x=1", NOT_MARKED, "whole-path"),
        ("GET", "/v1/labels/all", {}, "whole-path"),
        ("POST", "/v1/labels/all", NOT_MARKED, "written"),
        ("GET", "/v1/labels/7", {"x_canary": "yes"}, "canary"),
        ("GET", "/v1/labels/7", {"x_canary": "no", **NOT_MARKED}, "by-day"),
        ("GET", "/v1/labels/7", {"x_mark": "yes"}, "marked"),
        ("GET", "/v1/labels/7", {}, "by-day"),
    ],
)
def test_a_request_takes_the_route_that_the_mesh_says(
    world: World, method: str, path: str, headers: dict[str, str], route: str
) -> None:
    """Envoy and the mesh's own matcher agree on path, method, header and priority."""
    got = call(world, f"http://labels.ml.local{path}", method, **headers)
    dashed = {key.replace("_", "-"): value for key, value in headers.items()}
    said = match_request(
        world.mesh, virtual_service="labels.ml.local", method=method, path=path, headers=dashed
    )
    assert said is not None
    assert (world.client.end_of(got.request_id).route, said.route) == (route, route)


@pytest.mark.parametrize("authority", ["labels.ml.local", "labels.ml.local:80", "LABELS.ml.local"])
def test_a_service_answers_by_its_name_and_by_its_port(world: World, authority: str) -> None:
    """A virtual service is reached by its bare name and with its router's port."""
    end = world.client.end_of(call(world, f"http://{authority}/v1/labels/1").request_id)
    assert (end.code, end.virtual_service) == (200, "labels.ml.local")


def test_weights_share_the_calls(world: World) -> None:
    """Seven of ten calls go to the target of weight 7."""
    with closing(Caller(world.client.egress_port)) as caller:
        for _ in range(200):
            caller.call("http://labels.ml.local/v1/labels/1", x_mark="no")
    found = world.client.wait_for(200, _type="DownstreamEnd", path="/v1/labels/1", route="by-day")
    shares = Counter(call_of(line).target for line in found)
    assert set(shares) == {"labels-v1", "labels-v2"}
    assert 0.55 < shares["labels-v1"] / shares.total() < 0.85


@pytest.mark.parametrize(
    ("url", "code", "reason", "route"),
    [
        ("http://orphan.ml.local/", 503, "orphan.ml.local has no provider", "meshml:no-provider"),
        ("http://labels.ml.local/v1/nobody", 503, "route nobody have weight 0", "nobody"),
        ("http://labels.ml.local/v9", 404, "labels has no route", "meshml:no-route"),
    ],
)
def test_a_call_that_leads_nowhere_is_told_why(
    world: World, url: str, code: int, reason: str, route: str
) -> None:
    """What no target can answer is answered at once, and its line names the virtual service."""
    got = call(world, url)
    end = world.client.end_of(got.request_id)
    assert (got.code, reason in got.body.decode()) == (code, True)
    assert (end.details, end.route, end.attempts) == ("direct_response", route, 0)
    assert end.virtual_service == url.split("/")[2]
    assert world.client.types_of(got.request_id) == ["DownstreamStart", "DownstreamEnd"]


# --- what policies do -------------------------------------------------------------------------


def told(end: Call) -> tuple[int | None, str | None, str | None, int | None]:
    """How a call ended."""
    return end.code, end.flags, end.details, end.attempts


def test_a_failed_try_is_tried_again(world: World) -> None:
    """Two gateway errors and a success are one call of three attempts, each with its line."""
    got = call(world, "http://labels.ml.local/v1/flaky/1", x_code="503", x_times="2")
    end = world.client.end_of(got.request_id)
    attempts = world.client.attempts_of(got.request_id, 3)
    assert told(end) == (200, None, "via_upstream", 3)
    assert [(it.attempt, it.code) for it in attempts] == [(1, 503), (2, 503), (3, 200)]


def test_retries_come_to_an_end(world: World) -> None:
    """After maxRetries the program gets the last answer, and the flags say so."""
    got = call(world, "http://labels.ml.local/v1/flaky/1", x_code="502")
    assert told(world.client.end_of(got.request_id)) == (502, "URX", "via_upstream", 3)


def test_an_error_that_is_not_listed_is_not_tried_again(world: World) -> None:
    """gateway-error means 502, 503 and 504, nothing else."""
    got = call(world, "http://labels.ml.local/v1/flaky/1", x_code="500")
    assert told(world.client.end_of(got.request_id)) == (500, None, "via_upstream", 1)


def test_a_try_cut_by_its_time_out_ends_the_call(world: World) -> None:
    """A list of status codes covers what the upstream answered, not the proxy's own 504."""
    got = call(world, "http://labels.ml.local/v1/flaky/1", x_wait="1.2")
    assert told(world.client.end_of(got.request_id)) == (504, "UT", "upstream_per_try_timeout", 1)


def test_a_refused_connection_is_tried_again(world: World) -> None:
    """connection-error: nobody listens, two tries, each with the reason."""
    got = call(world, "http://labels.ml.local/v1/gone")
    end = world.client.end_of(got.request_id)
    attempts = world.client.attempts_of(got.request_id, 2)
    assert (end.code, set((end.flags or "").split(",")), end.attempts) == (503, {"URX", "UF"}, 2)
    assert ["refused" in (it.upstream_failure or "") for it in attempts] == [True, True]


def test_a_route_ends_a_call_that_takes_too_long(world: World) -> None:
    """perRequest cuts the call at the caller, and the called side sees its caller leave."""
    got = call(world, "http://labels.ml.local/v1/hurried", x_wait="1")
    end, served = world.client.end_of(got.request_id), world.v1.end_of(got.request_id)
    assert told(end) == (504, "UT", "response_timeout", 1)
    assert end.duration_us in range(250_000, 600_000)
    assert (served.code, served.flags) == (0, "DC")


def test_an_endpoint_that_keeps_failing_is_left_out(world: World) -> None:
    """After maxServerErrors failures in a row even the only endpoint is not called any more."""
    ends = [world.client.end_of(call(world, "http://gone.ml.local/").request_id) for _ in range(5)]
    assert [end.flags for end in ends] == ["UF"] * 4 + ["UH"]


def test_a_connection_pool_turns_away_what_exceeds_it(world: World) -> None:
    """One connection and one waiting request: of six calls at once, four are refused."""
    with ThreadPoolExecutor(6) as pool:
        url = "http://labels.ml.local/v1/labels/1"
        got = list(pool.map(lambda _: call(world, url, "POST", x_wait="1"), range(6)))
    refused = [world.client.end_of(it.request_id) for it in got if it.code == 503]
    assert sorted(it.code for it in got) == [200] * 2 + [503] * 4
    assert {(it.origin, it.origin_flags) for it in refused} == {("labels-v2", "UO")}


# --- what the ends see ------------------------------------------------------------------------


def test_the_program_gets_the_context_and_not_the_token(world: World) -> None:
    """Run and stage arrive, the client is who it is, and the proxy's credentials are gone."""
    call(
        world,
        "http://direct.ml.local/context",
        x_request_id="kept",
        x_meshml_run_id="4f1c",
        x_meshml_stage="training",
        x_meshml_client="liar",
    )
    (request,) = [it for it in world.program.requests if it.path == "/context"]
    names = ("x-meshml-run-id", "x-meshml-stage", "x-meshml-client", "x-request-id")
    assert [request.headers.get(name) for name in (*names, "proxy-authorization")] == [
        "4f1c",
        "training",
        "churn-training",
        "kept",
        None,
    ]
    assert "URI=spiffe://ml/churn-training" in request.headers["x-forwarded-client-cert"]


def test_a_program_cannot_pose_as_its_sidecar(world: World) -> None:
    """A 500 of the program's own carries no mark, whatever the program writes into its answer."""
    got = call(world, "http://direct.ml.local/v1/x", x_code="500", x_forge="1")
    end = world.client.end_of(got.request_id)
    assert (end.code, end.origin, end.origin_flags) == (500, None, None)
    assert "x-meshml-origin" not in got.headers


def test_the_program_sees_its_upstreams_own_server_header(world: World) -> None:
    """Sidecars pass the program's Server header on instead of writing their own."""
    assert call(world, "http://direct.ml.local/").headers["server"].startswith("BaseHTTP")


def test_a_kept_connection_serves_calls_to_several_services(world: World) -> None:
    """Clients keep one connection to their proxy; each request on it is routed by itself."""
    with closing(Caller(world.client.egress_port)) as caller:
        urls = ("http://direct.ml.local/a", "http://labels.ml.local/v1/labels/1")
        ends = [world.client.end_of(caller.call(url).request_id) for url in urls]
    assert [it.virtual_service for it in ends] == ["direct.ml.local", "labels.ml.local"]
    assert ends[0].connection_id == ends[1].connection_id


def test_the_admin_interface_is_the_owners_alone(world: World) -> None:
    """The admin socket has mode 0600, and no TCP port is open for it."""
    assert (world.client.folder / "admin.sock").stat().st_mode & 0o777 == 0o600


def test_envoy_has_nothing_to_complain_about(world: World) -> None:
    """No field that Envoy does not know, no deprecated one, no rejected resource."""
    time.sleep(0.1)
    for sidecar in (world.client, world.v1, world.v2):
        log = (sidecar.folder / "envoy.log").read_text().splitlines()
        assert [it for it in log if "downstream connections" not in it] == []
