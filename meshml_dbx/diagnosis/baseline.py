"""What healthy is: how each called thing behaved in the baseline, or how its siblings behave.

A reference is looked for in this order: the baseline runs (of several, the lower median of each
figure, so that one faulty or tiny run does not move it), else other targets of the same route
within the run, else none, and then only absolute evidence can blame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from meshml_dbx.diagnosis.groups import Groups, Place
from meshml_dbx.diagnosis.table import CallTable, Ints

MIN_SIBLING_CALLS = 5
"""A sibling with fewer answered calls says too little of what healthy is."""

SIBLING_MOST_RATIO = 2.0
"""Nor does one that is slower than this many times the place itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How calls to one place went: of the answered calls, their times; of all, their troubles."""

    answered: int
    p50_us: int
    p95_us: int
    mean_us: int
    first_byte_p50_us: int
    first_byte_p95_us: int
    retries_per_call: float
    error_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a place is compared with: ``kind`` is baseline or siblings, ``name`` says which."""

    kind: str
    name: str
    profile: Profile


def quantile(values: Ints, share: float) -> int:
    """The nearest-rank quantile: a value that was measured, 0 when there is none.

    >>> quantile(np.array([10, 20, 30, 40]), 0.95)
    40
    """
    if not len(values):
        return 0
    return int(np.quantile(values, share, method="inverted_cdf"))


def profile_of(table: CallTable, rows: Ints, answered: Ints) -> Profile:
    """The profile of some rows; ``answered`` are those of them that were answered."""
    durations = table.duration[answered]
    first = table.numbers["first_byte_us"][answered]
    first = first[first >= 0]
    count = max(len(rows), 1)
    return Profile(
        answered=len(answered),
        p50_us=quantile(durations, 0.5),
        p95_us=quantile(durations, 0.95),
        mean_us=int(durations.mean()) if len(answered) else 0,
        first_byte_p50_us=quantile(first, 0.5),
        first_byte_p95_us=quantile(first, 0.95),
        retries_per_call=float(table.retries[rows].sum()) / count,
        error_share=float((~table.open[rows]).sum() - len(answered)) / count,
    )


def profiles_of(table: CallTable, groups: Groups) -> dict[Place, Profile]:
    """The profile of every group of a table."""
    is_answered = table.answered
    return {
        place: profile_of(table, rows, rows[is_answered[rows]])
        for place, rows in zip(groups.places, groups.rows, strict=True)
    }


def typical(profiles: Sequence[Profile]) -> Profile:
    """The lower median of each figure."""
    return Profile(
        answered=sum(one.answered for one in profiles),
        p50_us=_low(profiles, "p50_us"),
        p95_us=_low(profiles, "p95_us"),
        mean_us=_low(profiles, "mean_us"),
        first_byte_p50_us=_low(profiles, "first_byte_p50_us"),
        first_byte_p95_us=_low(profiles, "first_byte_p95_us"),
        retries_per_call=median_low(one.retries_per_call for one in profiles),
        error_share=median_low(one.error_share for one in profiles),
    )


def references(
    own: Mapping[Place, Profile], past: Sequence[Mapping[Place, Profile]], name: str
) -> dict[Place, Reference]:
    """What each place is compared with; a place that has nothing is left out.

    Siblings serve where no baseline run answered for the place.
    """
    found = {}
    routes: dict[tuple[str, str | None, str], list[Place]] = {}
    for place in own:
        routes.setdefault((place.service, place.route, place.pattern), []).append(place)
    for place in own:
        seen = [run[place] for run in past if place in run]
        known = [profile for profile in seen if profile.answered] or seen
        if known:
            found[place] = Reference(kind="baseline", name=name, profile=typical(known))
            continue
        siblings = [
            other
            for other in routes[place.service, place.route, place.pattern]
            if other != place and _is_yardstick(own[other], own[place])
        ]
        if siblings:
            siblings.sort(key=lambda other: own[other].p50_us)
            usual = siblings[(len(siblings) - 1) // 2]
            found[place] = Reference(
                kind="siblings", name=usual.target or "its sibling", profile=own[usual]
            )
    return found


def _is_yardstick(sibling: Profile, own: Profile) -> bool:
    """Whether a sibling can say what healthy is for a place: it may be faster, not much slower."""
    slower = own.answered and sibling.p50_us > SIBLING_MOST_RATIO * own.p50_us
    return sibling.answered >= MIN_SIBLING_CALLS and not slower


def _low(profiles: Sequence[Profile], figure: str) -> int:
    return int(median_low(getattr(one, figure) for one in profiles))
