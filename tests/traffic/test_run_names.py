"""Which run a person means, and what is answered to who means none."""

import pytest

from meshml_dbx.errors import UnknownRunError
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_names import in_order, pick_run, run_of_page

ID = "4f1c0b99a3d24c8e9f0a1b2c3d4e5f60"


def run(run_id: str, name: str, start: int) -> Run:
    """A run of that name."""
    return Run(run_id=run_id, name=name, experiment_id="1", status="FINISHED", start_time=start)


RUNS = (
    run(ID, "churn-training", 10),
    run("9be27a" + "0" * 26, "churn-training", 20),
    run("9be27b" + "0" * 26, "scoring", 15),
    run("deadbeef" + "0" * 24, "4f1c", 5),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("last", "9be27a"),
        (ID, "4f1c0b"),
        ("4f1c0b", "4f1c0b"),
        ("4F1C0B", "4f1c0b"),
        ("  4f1c0b\n", "4f1c0b"),
        ("churn-training", "9be27a"),
        ("scoring", "9be27b"),
        ("4f1c", "deadbe"),
        (f"http://localhost:5000/#/experiments/1/runs/{ID}", "4f1c0b"),
        (f"https://adb-1.azuredatabricks.net/ml/experiments/7/runs/{ID}?o=42", "4f1c0b"),
    ],
)
def test_each_way_to_name_a_run(name: str, expected: str) -> None:
    """An id or its begin in any case, a name before a begin, the newest of a name, a page."""
    assert pick_run(RUNS, name).run_id[:6] == expected


def test_a_begin_that_two_ids_share_is_refused() -> None:
    """Both are listed; nothing is guessed."""
    with pytest.raises(UnknownRunError, match="begins the ids of 2 runs") as caught:
        pick_run(RUNS, "9be2")
    assert "9be27a000000 (churn-training)" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("churn-trianing", "churn-training"), ("4f1c0c", "4f1c0b99a3d2"), ("scorin", "scoring")],
)
def test_a_slip_is_answered_with_the_closest(name: str, closest: str) -> None:
    """By name and by begin of an id."""
    with pytest.raises(UnknownRunError, match="closest: ") as caught:
        pick_run(RUNS, name)
    assert closest in caught.value.message


@pytest.mark.parametrize("name", ["zzzz", "", "[", "../../etc/passwd"])
def test_where_nothing_is_close_the_newest_are_listed(name: str) -> None:
    """A person who has forgotten the name sees some."""
    with pytest.raises(UnknownRunError, match="newest: 9be27a000000"):
        pick_run(RUNS, name)


def test_an_empty_store_has_no_last_run() -> None:
    """There is nothing to list, and the message says so."""
    with pytest.raises(UnknownRunError, match="the tracking store has none"):
        pick_run([], "last")


def test_what_is_no_page_stays_as_it_is() -> None:
    """An id is not taken apart."""
    assert [run_of_page(name) for name in (ID, "last", "https://example.org/x")] == [
        *(ID, "last", "https://example.org/x")
    ]


def test_runs_are_put_in_order_of_their_start() -> None:
    """Oldest first, by id where they began together."""
    together = [run("b", "x", 1), run("a", "x", 1), run("c", "x", 0)]
    assert [one.run_id for one in in_order(together)] == ["c", "a", "b"]
