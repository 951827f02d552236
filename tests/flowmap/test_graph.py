"""The graph of a run's calls: what is counted, what is kept, and what is told apart."""

from meshml_dbx.flowmap import FlowMap, Numbers, Place, flow_of
from meshml_dbx.traffic.evidence import CallColumns
from tests.flowmap.made_calls import LABELS, call, thirty_services


def numbers_at(flow: FlowMap, place: Place) -> Numbers:
    """The numbers of one stop."""
    return next(stop.numbers for stop in flow.stops if stop.place == place)


def test_a_path_counts_its_calls_errors_and_retries() -> None:
    """Errors are 5xx, missing routes and missing answers; a retry is an attempt after the first."""
    flow = flow_of(
        CallColumns.of(
            [
                call(),
                call(code=503, flags="UC"),
                call(code=404, flags="NR"),
                call(code=None),
                call(code=404),
                call(attempts=3),
            ]
        ),
        waits={LABELS: 8.3},
    )
    expected = Numbers(calls=6, errors=3, retries=2, wait_s=8.3, p95_ms=10.0)
    assert [path.numbers for path in flow.paths] == [expected]


def test_a_caller_that_went_away_is_no_error_of_the_service() -> None:
    """A call without a code whose caller hung up (DC) does not count as an error."""
    flow = flow_of(CallColumns.of([call(code=0, flags="DC")]))
    assert flow.paths[0].numbers.errors == 0


def test_p95_is_a_measured_duration_of_an_answered_call() -> None:
    """The 95th percentile is the nearest rank, and failed calls have no part in it."""
    calls = [call(ms=ms) for ms in range(1, 101)] + [call(ms=9000, code=503)]
    assert flow_of(CallColumns.of(calls)).paths[0].numbers.p95_ms == 95.0


def test_routes_of_two_services_stay_apart() -> None:
    """A route's name is unique only within its virtual service, so both are places."""
    flow = flow_of(CallColumns.of([call(), call(virtual_service="other.ml.local")]))
    routes = {stop.place for stop in flow.stops if stop.place.column == "route"}
    assert routes == {
        Place(column="route", name="by-day", virtual_service="labels.ml.local"),
        Place(column="route", name="by-day", virtual_service="other.ml.local"),
    }


def test_a_shared_target_adds_up() -> None:
    """A target that two routes lead to is one place with the calls of both."""
    flow = flow_of(CallColumns.of([call(), call(virtual_service="other.ml.local")]))
    assert numbers_at(flow, Place(column="target", name="labels-v2")).calls == 2


def test_a_host_outside_the_mesh_goes_by_its_authority() -> None:
    """A call that no virtual service claims is drawn under the host that it went to."""
    flow = flow_of(
        CallColumns.of([call(virtual_service=None, route=None, target=None, authority="pypi.test")])
    )
    assert [path.group for path in flow.paths] == [("pypi.test", "", "")]


def test_a_call_in_flight_draws_a_path_of_its_own() -> None:
    """A path on which nothing has finished yet is there, and says how many calls are in flight."""
    flow = flow_of(CallColumns.of([]), in_flight=[call()], marked={LABELS})
    assert [(path.numbers.in_flight, path.numbers.calls, path.marked) for path in flow.paths] == [
        (1, 0, True)
    ]


def test_the_culprit_is_marked_along_its_whole_path() -> None:
    """Every link from the client to the marked target is marked, and no other."""
    flow = flow_of(CallColumns.of([call(), call(target="labels-v1")]), marked={LABELS})
    marked = [(link.source.name, link.target.name) for link in flow.links if link.marked]
    assert marked == [
        ("churn-training", "labels.ml.local"),
        ("labels.ml.local", "by-day"),
        ("by-day", "labels-v2"),
    ]


def test_the_picture_is_bounded_and_keeps_the_culprit() -> None:
    """Beyond the bound paths are counted, not drawn; a marked one is drawn however short its wait.

    The others are kept by wait.
    """
    calls = thirty_services()
    route = "by-day-and-then-by-customer-and-region"
    least = ("a-service-with-a-very-long-name-01.production.ml.local", route, "backend-1-v2")
    most = ("a-service-with-a-very-long-name-04.production.ml.local", route, "backend-4-v2")
    flow = flow_of(calls, marked={least}, waits={most: 9.0}, at_most=2)
    assert ([path.group for path in flow.paths], flow.left_out) == ([least, most], 28)


def test_a_wait_that_two_clients_share_is_not_told_of_either() -> None:
    """Waits come by route and target; what part of one a client has is not known."""
    flow = flow_of(
        CallColumns.of([call(), call(client="churn-scoring")]),
        waits={LABELS: 8.3},
    )
    waits = {stop.place.name: stop.numbers.wait_s for stop in flow.stops}
    assert waits == {
        "churn-training": None,
        "churn-scoring": None,
        "labels.ml.local": 8.3,
        "by-day": 8.3,
        "labels-v2": 8.3,
    }


def test_no_calls_make_an_empty_map() -> None:
    """A run without calls has a map without paths."""
    assert flow_of(CallColumns.of([])) == FlowMap()
