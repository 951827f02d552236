"""Who was called, with as many patterns as a person can read."""

from meshml_dbx.diagnosis.groups import MAX_PATTERNS, distinct_places, folds_of, group_calls
from meshml_dbx.diagnosis.table import table_of
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns
from tests.diagnosis.hand_made import BEGIN, call

WHOLE = (BEGIN, BEGIN + 10**12)


def places_of(*calls: Call) -> dict[tuple[str, str | None, str | None, str], int]:
    """The groups of some calls, and the number of calls in each."""
    distinct = distinct_places(table_of(CallColumns.of(calls), span=WHOLE))
    groups = group_calls(distinct, folds_of([distinct]))
    return {
        (place.service, place.route, place.target, place.pattern): len(rows)
        for place, rows in zip(groups.places, groups.rows, strict=True)
    }


def test_calls_are_grouped_by_service_route_target_and_pattern() -> None:
    """Each differing part makes a group of its own."""
    made = places_of(call(0, 1), call(1, 1), call(2, 1, target="v2"), call(3, 1, pattern="GET /x"))

    assert made == {
        ("labels.ml.local", "by-day", "v1", "GET /v1/labels/{}"): 2,
        ("labels.ml.local", "by-day", "v2", "GET /v1/labels/{}"): 1,
        ("labels.ml.local", "by-day", "v1", "GET /x"): 1,
    }


def test_a_host_outside_the_mesh_goes_by_its_authority() -> None:
    """Two hosts without a virtual service are two groups."""
    outside = {"virtual_service": None, "route": None, "target": None}
    made = places_of(call(0, 1, authority="a.org", **outside), call(1, 1, **outside))

    assert [service for service, *_ in made] == ["a.org", "labels.ml.local"]


def test_fifty_patterns_are_kept_as_they_are() -> None:
    """A service with as many patterns as allowed is not folded."""
    made = places_of(*(call(n, 1, pattern=f"GET /v1/p{n}") for n in range(MAX_PATTERNS)))

    assert len(made) == MAX_PATTERNS


def test_more_patterns_are_folded_and_the_commonest_kept() -> None:
    """Of many patterns the uncommon ones become one, named by what they share."""
    rare = [call(n, 1, pattern=f"GET /v1/p{n}/x") for n in range(300)]
    common = [call(1000 + n, 1, pattern="GET /v1/common") for n in range(5)]

    made = {pattern: count for (*_, pattern), count in places_of(*rare, *common).items()}

    assert len(made) == MAX_PATTERNS
    assert made["GET /v1/common"] == 5
    assert made["GET /v1/{…}"] == 305 - 5 - (MAX_PATTERNS - 2)


def test_runs_that_are_compared_are_folded_alike() -> None:
    """A pattern that one run folds, the other folds too, though it has few itself."""
    many, few = (
        distinct_places(table_of(CallColumns.of(calls), span=WHOLE))
        for calls in (
            [call(n, 1, pattern=f"GET /v1/p{n:03}") for n in range(300)],
            [call(0, 1, pattern="GET /v1/p299")],
        )
    )
    folds = folds_of([many, few])

    names = {place.pattern for place in group_calls(many, folds).places}
    alone = {place.pattern for place in group_calls(few, folds).places}

    assert alone <= names
