"""What a month of VPC Lattice would cost, by list prices with their date."""

import pytest

from meshml_dbx.planes.lattice_price import estimate


def test_the_example_of_awss_own_page_comes_out_the_same() -> None:
    """100 services with 100 GB and 200,000 requests an hour each: 1,825 and 250 dollars."""
    made = estimate(services=100, gigabytes=10_000, requests=100 * 200_000 * 730)
    assert [(cost.what, cost.dollars) for cost in made.costs] == [
        ("services", 1825.0),
        ("data", 250.0),
        ("requests", 0.0),
    ]
    assert made.total == 2075.0


def test_requests_beyond_the_free_ones_are_billed_by_the_million() -> None:
    """One service with ten times the free requests pays for nine tenths of them."""
    made = estimate(services=1, requests=3_000_000 * 730, gigabytes=0)
    assert made.costs[-1].dollars == pytest.approx(2_700_000 * 730 / 1e6 * 0.10)


def test_each_cost_shows_its_formula_and_the_prices_their_date() -> None:
    """Who reads the sum can reckon it again, and knows how old the prices are."""
    made = estimate(services=2, requests=10, gigabytes=1, hours=100)
    assert made.costs[0].formula == "2 services x 100 h x $0.025"
    assert "us-east-1, seen 2025" in made.notes[0]
    assert "unverified" in made.notes[0]


def test_another_region_is_said_to_have_other_prices() -> None:
    """Only one region's prices are known."""
    assert any("eu-west-1" in note for note in estimate(services=1, region="eu-west-1").notes)
    assert not any("eu-west-1" in note for note in estimate(services=1).notes)


def test_tcp_resources_are_said_to_be_missing_from_the_sum() -> None:
    """They are billed in another way."""
    assert any("TCP" in note for note in estimate(services=1, resources=2).notes)


@pytest.mark.parametrize(
    ("requests", "gigabytes", "said"),
    [
        (11_000 * 3600 * 100, 1, "11,000.0 requests a second"),
        (1, 5_000 * 100, "11.1 gigabits a second"),
        (9_000 * 3600 * 100, 4_000 * 100, None),
    ],
)
def test_more_traffic_than_one_service_takes_is_said(
    requests: float, gigabytes: float, said: str | None
) -> None:
    """A service takes 10,000 requests and 10 gigabits a second in each zone."""
    notes = estimate(services=1, hours=100, requests=requests, gigabytes=gigabytes).notes
    assert [said in note for note in notes if "quota" in note and said] == ([True] if said else [])
    assert any("quota" in note for note in notes) == (said is not None)


def test_traffic_in_no_time_is_no_rate() -> None:
    """Without hours, or services, there is nothing to divide by."""
    for services, hours in ((0, 730), (1, 0)):
        notes = estimate(services=services, hours=hours, requests=1e12, gigabytes=1e9).notes
        assert not any("quota" in note for note in notes)
