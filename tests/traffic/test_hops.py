"""Which call was made to answer which: by id where one is forwarded, else by time, or not."""

from dataclasses import replace

import pytest

from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns
from meshml_dbx.traffic.hops import CLOCK_STEP_US, MOST_OF_ONE_ID, Hop, link_hops
from meshml_dbx.traffic.trail import MOST_STEPS, follow, slowest
from tests.traffic.made_hops import MS, NOON, asked, make_world, served

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER_TRACE = "00-00000000000000000000000000000001-00f067aa0ba902b7-01"
RELAY = {"virtual_node": "relay", "sidecar_id": "relay-1"}
LABELS = {"virtual_node": "labels", "sidecar_id": "labels-1"}


def links(*calls: Call) -> list[tuple[int | None, str | None]]:
    """Parent and how of each call."""
    return [(hop.parent, hop.how) for hop in link_hops(calls)]


def own_times(*calls: Call) -> list[int]:
    """The time that each call took itself."""
    return [hop.self_us for hop in link_hops(calls)]


def relayed(own: str = "r2", *, begin: int = 3 * MS, took: int = 80 * MS) -> Call:
    """The call that the relay makes to answer another."""
    return asked(begin, took, request_id=own, target="labels", **RELAY)


CALLED = asked(0, 100 * MS, request_id="r1", target="relay")
SERVED = served(MS, 98 * MS, request_id="r1", **RELAY)


def test_a_call_is_followed_past_its_first_service() -> None:
    """Four records of two hops are one path, and each has its own part of the time."""
    last = served(4 * MS, 70 * MS, request_id="r2", **LABELS)
    calls = (CALLED, SERVED, relayed(), last)
    assert links(*calls) == [(None, None), (0, "request"), (1, "inferred"), (2, "request")]
    assert own_times(*calls) == [2 * MS, 18 * MS, 10 * MS, 70 * MS]


def test_an_id_that_is_forwarded_is_believed() -> None:
    """Also where several calls are served at once, and where the call outlasts the one served."""
    beside = served(0, 200 * MS, request_id="r9", **RELAY)
    late = relayed("r1", took=300 * MS)
    assert links(CALLED, SERVED, beside, late)[3] == (1, "request")


@pytest.mark.parametrize("skew_us", [-30 * MS, -500 * MS, 500 * MS, 90_000 * MS])
def test_clocks_of_two_hosts_may_differ(skew_us: int) -> None:
    """A child may seem to begin before its parent; what is its own time does not suffer."""
    away = served(MS + skew_us, 90 * MS, request_id="r1", **RELAY)
    assert links(CALLED, away) == [(None, None), (0, "request")]
    assert own_times(CALLED, away) == [10 * MS, 90 * MS]


def test_one_clock_may_be_rounded() -> None:
    """A call told in milliseconds may stick out by one, one told in microseconds not at all."""
    rounded = replace(SERVED, total_us=None, duration_ms=98)
    early = SERVED.start_time - CLOCK_STEP_US
    long = SERVED.end_time - 3 * MS + CLOCK_STEP_US
    for begin, took in ((early, MS), (3 * MS, long)):
        assert links(rounded, relayed(begin=begin, took=took))[1] == (0, "inferred")
        assert links(SERVED, relayed(begin=begin, took=took))[1] == (None, None)
    assert links(rounded, relayed(begin=early - 1))[1] == (None, None)
    assert links(rounded, relayed(took=long + 1))[1] == (None, None)


def test_what_fits_several_is_not_guessed() -> None:
    """Two calls served at once: a call made meanwhile is of either, and is marked."""
    beside = served(2 * MS, 99 * MS, request_id="r9", **RELAY)
    assert links(SERVED, beside, relayed())[2] == (None, "ambiguous")
    short = served(2 * MS, 9 * MS, request_id="r9", **RELAY)
    assert links(SERVED, short, relayed())[2] == (0, "inferred")


def test_a_trace_id_tells_them_apart() -> None:
    """Of calls served at once, the one of the same trace; another trace's is none."""
    mine = served(MS, 98 * MS, request_id="r1", trace_parent=TRACE, **RELAY)
    beside = served(2 * MS, 99 * MS, request_id="r9", trace_parent=OTHER_TRACE, **RELAY)
    made = asked(3 * MS, 9 * MS, request_id="r2", target="labels", trace_parent=TRACE, **RELAY)
    assert links(mine, beside, made)[2] == (0, "trace")
    assert links(beside, made)[1] == (None, None)
    assert links(mine, served(MS, 98 * MS, request_id="r8", **RELAY), made)[2] == (0, "trace")


def test_only_the_own_sidecar_nests() -> None:
    """Another replica, a client and logs of nobody known fit no call by time."""
    replica = asked(3 * MS, 9 * MS, request_id="r2", virtual_node="relay", sidecar_id="relay-2")
    client = asked(3 * MS, 9 * MS, request_id="r3", sidecar_id="relay-1")
    nameless = asked(3 * MS, 9 * MS, request_id="r4", virtual_node=None, sidecar_id="relay-1")
    assert links(SERVED, replica, client, nameless)[1:] == [(None, None)] * 3


def test_tries_of_one_call_are_its_children() -> None:
    """A retried call is served several times under one id."""
    first = served(MS, 10 * MS, request_id="r1", **RELAY)
    second = served(50 * MS, 40 * MS, request_id="r1", virtual_node="relay", sidecar_id="relay-2")
    assert links(CALLED, first, second)[1:] == [(0, "request"), (0, "request")]
    assert own_times(CALLED, first, second)[0] == 50 * MS


def test_one_id_along_the_whole_path() -> None:
    """Where programs forward the id, targets tell whose a served call is."""
    onward = relayed("r1")
    last = served(4 * MS, 70 * MS, request_id="r1", **LABELS)
    assert links(CALLED, SERVED, onward, last) == [
        (None, None),
        (0, "request"),
        (1, "request"),
        (2, "request"),
    ]


def test_logs_of_others_without_names() -> None:
    """One source of both sides, one id along the path, no member named: time orders them."""
    whose = {"sidecar_id": "cluster", "client": None, "request_id": "r1"}
    calls = [
        asked(0, 100 * MS, path="/relay", **whose),
        served(MS, 98 * MS, path="/relay", **whose),
        asked(3 * MS, 80 * MS, path="/v1/labels", **whose),
        served(4 * MS, 70 * MS, path="/v1/labels", **whose),
    ]
    assert links(*calls) == [(None, None), (0, "request"), (None, None), (2, "request")]


def test_a_gateway_stands_between() -> None:
    """A gateway's call answers a caller's, and the node's answers the gateway's."""
    gateway = {"observer": "gateway", "virtual_node": "edge", "sidecar_id": "edge-1"}
    calls = [
        asked(0, 100 * MS, request_id="r1", target="edge"),
        served(MS, 90 * MS, request_id="r1", target="labels", **gateway),
        served(2 * MS, 80 * MS, request_id="r1", **LABELS),
    ]
    assert links(*calls) == [(None, None), (0, "request"), (1, "request")]


def test_a_node_that_calls_itself_is_no_circle() -> None:
    """The call to itself is not made to answer what it led to."""
    itself = asked(3 * MS, 5 * MS, request_id="r2", target="relay", **RELAY)
    again = served(3 * MS, 5 * MS, request_id="r2", **RELAY)
    assert links(CALLED, SERVED, itself, again) == [
        (None, None),
        (0, "request"),
        (1, "inferred"),
        (2, "request"),
    ]


def test_an_id_that_everybody_sends_links_nothing() -> None:
    """A program that always sends one id costs no time, and is not believed."""
    many = [asked(n * MS, MS, request_id="x", target="relay") for n in range(MOST_OF_ONE_ID)]
    taken = served(5 * MS, 900, request_id="x", **RELAY)
    assert links(*many, taken)[-1] == (None, None)
    assert links(*many[:-1], taken)[-1][1] == "request"


@pytest.mark.parametrize("seed", range(5))
def test_links_are_true(seed: int) -> None:
    """In a world of skewed clocks and concurrent calls hardly a link is wrong, none by an id."""
    world = make_world(seed)
    hops = link_hops(world.calls)
    by_id = [(at, hop) for at, hop in enumerate(hops) if hop.how == "request"]
    assert all(hop.parent == world.parents[at] for at, hop in by_id)
    guessed = [(at, hop) for at, hop in enumerate(hops) if hop.how in ("trace", "inferred")]
    wrong = [at for at, hop in guessed if hop.parent != world.parents[at]]
    assert len(guessed) > 20
    assert len(wrong) <= len(guessed) // 10
    crossing = [hop for hop in hops if hop.call.observer == "ingress"]
    assert all(hop.how == "request" for hop in crossing)


def test_order_does_not_matter() -> None:
    """The same calls in another order have the same parents."""
    world = make_world(7)

    def told(hops: tuple[Hop, ...]) -> set[tuple[str, str]]:
        return {
            (repr(hop.call), repr(hops[hop.parent].call)) for hop in hops if hop.parent is not None
        }

    assert told(link_hops(world.calls)) == told(link_hops(world.calls[::-1]))


def test_trails_start_at_the_slowest_calls() -> None:
    """The slowest first, each with what it led to below it, and what fits several only counted."""
    beside = served(2 * MS, 99 * MS, request_id="r9", **RELAY)
    quick = asked(5, MS, request_id="r0", target="labels")
    calls = (quick, CALLED, SERVED, beside, relayed())
    mine = CallColumns.of(call for call in calls if call.client)
    roots = slowest(mine, at_most=2)
    assert [root.request_id for root in roots] == ["r1", "r0"]
    first, second = follow(calls, roots)
    assert [(step.depth, step.hop.call.observer) for step in first.steps] == [
        (0, "egress"),
        (1, "ingress"),
    ]
    assert (first.ambiguous, second.ambiguous, len(second.steps)) == (1, 0, 1)
    assert [root.request_id for root in slowest(mine, at_most=9, request_id="r0")] == ["r0"]


def test_a_wide_trail_is_cut_and_says_so() -> None:
    """A call that led to very many has a bounded answer."""
    inner = [relayed(f"i{n:04d}", begin=2 * MS + n * 100, took=90) for n in range(MOST_STEPS)]
    mine = CallColumns.of([CALLED])
    (trail,) = follow((CALLED, SERVED, *inner), slowest(mine, at_most=1))
    assert (len(trail.steps), trail.left_out) == (MOST_STEPS, 2)
    told = trail.to_json()
    assert told["left_out"] == 2


def test_many_calls_take_time_as_they_are_many() -> None:
    """A day's worth of calls is linked in seconds: no step looks at all others."""
    calls = [
        call
        for n in range(20_000)
        for call in (
            served(NOON + n * MS, 900, request_id=f"a{n}", **RELAY),
            asked(NOON + n * MS + 100, 500, request_id=f"b{n}", target="labels", **RELAY),
        )
    ]
    linked = link_hops(calls)
    assert sum(hop.how == "inferred" for hop in linked) == len(calls) // 2
