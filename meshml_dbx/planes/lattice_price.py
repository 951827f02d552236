"""What a month of VPC Lattice would cost: list prices with their date, and the sum as a formula.

The prices are of one region and unverified since; AWS's own page decides. Access logs, traffic
between accounts and what the targets cost are not in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

HOURS_A_MONTH = 730.0
MOST_REQUESTS_A_SECOND, MOST_GIGABITS_A_SECOND = 10_000.0, 10.0
"""What a service takes in each zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars as listed for a region on a day.

    >>> US_EAST_1.region
    'us-east-1'
    """

    region: str
    seen: str
    source: str
    service_hour: float
    gigabyte: float
    million_requests: float
    free_requests_per_hour: float


US_EAST_1 = Prices(
    region="us-east-1",
    seen="2025",
    source="aws.amazon.com/vpc/lattice/pricing",
    service_hour=0.025,
    gigabyte=0.025,
    million_requests=0.10,
    free_requests_per_hour=300_000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One line of an estimate: what for, how it was reckoned, and the dollars.

    >>> Cost(what="services", formula="2 x 730 h x $0.025", dollars=36.5).dollars
    36.5
    """

    what: str
    formula: str
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The lines of a month, and what to know before believing them.

    >>> estimate(services=2).total
    36.5
    """

    prices: Prices
    costs: tuple[Cost, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        """The dollars of a month, all together."""
        return round(sum(cost.dollars for cost in self.costs), 2)


def estimate(
    *,
    services: int,
    requests: float | None = None,
    gigabytes: float | None = None,
    hours: float = HOURS_A_MONTH,
    region: str | None = None,
    resources: int = 0,
    prices: Prices = US_EAST_1,
) -> Estimate:
    """The cost of this many services for so many hours; without traffic, of their being there."""
    costs = [_of_services(services, hours, prices)]
    if gigabytes is not None:
        formula = f"{gigabytes:,g} GB x ${prices.gigabyte}"
        dollars = gigabytes * prices.gigabyte
        costs.append(Cost(what="data", formula=formula, dollars=round(dollars, 2)))
    if requests is not None:
        costs.append(_of_requests(requests, services, hours, prices))
    return Estimate(
        prices=prices,
        costs=tuple(costs),
        notes=(
            *_notes(prices, region, resources=resources, has_traffic=requests is not None),
            *_rates(requests or 0.0, gigabytes or 0.0, seconds=services * hours * 3600),
        ),
    )


def _of_services(services: int, hours: float, prices: Prices) -> Cost:
    formula = f"{_counted(services)} x {hours:g} h x ${prices.service_hour}"
    dollars = services * hours * prices.service_hour
    return Cost(what="services", formula=formula, dollars=round(dollars, 2))


def _of_requests(requests: float, services: int, hours: float, prices: Prices) -> Cost:
    free = prices.free_requests_per_hour * hours * services
    billed = max(0.0, requests - free)
    formula = (
        f"max(0, {requests:,.0f} - {_counted(services)} x {hours:g} h x "
        f"{prices.free_requests_per_hour:,.0f} free) x ${prices.million_requests:.2f} a million"
    )
    dollars = billed / 1_000_000 * prices.million_requests
    return Cost(what="requests", formula=formula, dollars=round(dollars, 2))


def _counted(services: int) -> str:
    return "1 service" if services == 1 else f"{services} services"


def _notes(
    prices: Prices, region: str | None, *, resources: int, has_traffic: bool
) -> tuple[str, ...]:
    notes = [
        f"list prices of {prices.region}, seen {prices.seen} ({prices.source}), unverified since"
    ]
    if region not in {None, prices.region}:
        notes.append(f"no prices are known here for {region}; theirs differ")
    if has_traffic:
        notes.append(
            "the free requests are taken to count for each service, and the traffic to be spread "
            "evenly over services and hours; peaks cost more"
        )
    else:
        notes.append("without traffic: give it with --traffic REQUESTS GIGABYTES, of a month")
    if resources:
        notes.append(f"{resources} TCP resources are billed apart and are not in the sum")
    return tuple(notes)


def _rates(requests: float, gigabytes: float, *, seconds: float) -> Iterator[str]:
    """What a service would get on the average, where that is more than Lattice's quota."""
    if not seconds:
        return
    for rate, most, what in (
        (requests / seconds, MOST_REQUESTS_A_SECOND, "requests"),
        (gigabytes * 8 / seconds, MOST_GIGABITS_A_SECOND, "gigabits"),
    ):
        if rate > most:
            yield (
                f"that is {rate:,.1f} {what} a second for each service; the quota is "
                f"{most:,.0f} in a zone"
            )
