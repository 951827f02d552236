"""Whether calls were spread as a route's weights say, or further off than chance explains.

The Chernoff-Hoeffding bound (Hoeffding 1963, theorem 1): of n independent calls of which each goes
to a target with probability p, a share as far off as q, or further on that side, has a chance of at
most exp(-n KL(q, p)), KL being the relative entropy of two coins; both sides at most twice that. It
holds for every n and p, so a route is never blamed more often than the error that is promised.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FALSE_ALARMS = 0.01
"""The chance that any target at all of a mesh whose weights are kept is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one target's calls compare with its weight; ``chance`` bounds that of such a share.

    >>> Spread(target="a", calls=50, of=100, declared=0.5, chance=1.0).observed
    0.5
    """

    target: str
    calls: int
    of: int
    declared: float
    chance: float

    @property
    def observed(self) -> float:
        """The part of the route's calls that the target got."""
        return self.calls / self.of if self.of else 0.0


def spreads(declared: Mapping[str, float], calls: Mapping[str, int]) -> tuple[Spread, ...]:
    """How the calls of one route compare with its targets' declared parts, which add up to 1.

    >>> spreads({"a": 0.5, "b": 0.5}, {"a": 4, "b": 4})[0].chance
    1.0
    """
    total = sum(calls.values())
    return tuple(
        Spread(
            target=target,
            calls=calls.get(target, 0),
            of=total,
            declared=part,
            chance=chance_of(calls.get(target, 0), total, part),
        )
        for target, part in declared.items()
    )


def beyond_chance(found: Sequence[Spread]) -> tuple[Spread, ...]:
    """Those that chance does not explain, the promised error shared out over all (Bonferroni)."""
    return tuple(one for one in found if one.chance < FALSE_ALARMS / len(found))


def chance_of(calls: int, of: int, part: float) -> float:
    """A bound of the chance of a share as far off as this, on either side; at most 1.

    >>> round(chance_of(60, 100, 0.5), 3)
    0.267
    """
    if of == 0:
        return 1.0
    return min(1.0, 2 * math.exp(-of * _relative_entropy(calls / of, part)))


def _relative_entropy(observed: float, declared: float) -> float:
    parts = ((observed, declared), (1 - observed, 1 - declared))
    if any(seen > 0 and meant <= 0 for seen, meant in parts):
        return math.inf
    return sum(seen * math.log(seen / meant) for seen, meant in parts if seen > 0)
