"""From claims to suspects: patterns of one target joined, what does not matter dropped, ordered.

Goes in: a case. Comes out: suspects, the costliest first, each call in one of them; then what is
left, as suspects of cause ``none``, by wait. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.baseline import Reference
from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.causes import ERROR_CAUSES, RULES, Claim
from meshml_dbx.diagnosis.groups import Place
from meshml_dbx.diagnosis.table import Ints

MIN_ERRORS = 3
MIN_ERROR_SHARE = 0.2
"""Failures matter, whatever they cost, when a fifth of the calls to a place failed, at least three
of them. One refused identity is enough: it is no accident."""

USUAL_ERROR_SHARE = 0.1
"""Failures that the baseline has too, up to this much less often, are not why this run was slow."""

FINAL_SHARE = 0.05
FINAL_US = 5_000_000
"""A failure so near the end of a run that broke off is taken to have ended it."""

NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suspect:
    """A target of a route, the calls of it that one cause explains, and what that cost.

    ``place`` is the costliest of ``places``, which differ in their pattern only. ``of_calls``
    counts all calls to these places.
    """

    cause: str
    place: Place
    groups: tuple[int, ...]
    rows: Ints
    of_calls: int
    wait_us: int
    cost_us: int
    pause_us: int
    reference: Reference | None
    is_fatal: bool = False


def find_suspects(case: Case) -> tuple[Suspect, ...]:
    """Everything that the run waited for, what is to blame first."""
    claims = list(_claims(case))
    blamed = [one for one in _joined(case, claims) if matters(case, one)]
    blamed.sort(key=lambda one: (not one.is_fatal, -one.cost_us, -one.wait_us))
    left = np.ones(len(case.table), dtype=np.bool_)
    for suspect in blamed:
        left[suspect.rows] = False
    rest = [
        (NONE, group, Claim(rows=rows[left[rows]], cost_us=0, reference=_reference(case, group)))
        for group, rows in enumerate(case.groups.rows)
        if left[rows].any()
    ]
    healthy = sorted(_joined(case, rest), key=lambda one: -one.wait_us)
    return (*blamed, *healthy)


def matters(case: Case, suspect: Suspect) -> bool:
    """Whether a suspect made this run slow, stuck or fail."""
    if case.table.open[suspect.rows].any() and suspect.cause == "stuck_call":
        return True
    if suspect.cause not in ERROR_CAUSES:
        return suspect.cost_us >= case.matters_us
    failed = int(case.marks.failed[suspect.rows].sum())
    share = failed / max(suspect.of_calls, 1)
    usual = _usual_errors(case, suspect)
    if usual and not suspect.is_fatal and share < usual + USUAL_ERROR_SHARE:
        return False
    enough = 1 if suspect.cause == "refused_identity" else MIN_ERRORS
    persistent = failed >= enough and share >= MIN_ERROR_SHARE
    return suspect.is_fatal or persistent or suspect.cost_us >= case.matters_us


def _claims(case: Case) -> Iterator[tuple[str, int, Claim]]:
    taken = np.zeros(len(case.table), dtype=np.bool_)
    for group, rows in enumerate(case.groups.rows):
        free = rows
        for cause, rule in RULES.items():
            claim = rule(case, group, free) if len(free) else None
            if claim is not None:
                taken[claim.rows] = True
                free = free[~taken[free]]
                yield cause, group, claim


def _joined(case: Case, claims: list[tuple[str, int, Claim]]) -> list[Suspect]:
    """One suspect for the claims that differ in their pattern only."""
    joined: dict[tuple[object, ...], list[tuple[int, Claim]]] = {}
    for cause, group, claim in claims:
        place = case.groups.places[group]
        key = (cause, place.service, place.in_mesh, place.route, place.target)
        joined.setdefault(key, []).append((group, claim))
    return [_suspect(case, str(key[0]), members) for key, members in joined.items()]


def _suspect(case: Case, cause: str, members: list[tuple[int, Claim]]) -> Suspect:
    def weight(member: tuple[int, Claim]) -> tuple[int, int]:
        rows = member[1].rows
        return member[1].cost_us, int(case.waits.parts_us[rows].sum())

    chief, claim = max(members, key=weight)
    rows = np.sort(np.concatenate([one.rows for _, one in members]))
    groups = tuple(group for group, _ in members)
    return Suspect(
        cause=cause,
        place=case.groups.places[chief],
        groups=groups,
        rows=rows,
        of_calls=sum(len(case.groups.rows[group]) for group in groups),
        wait_us=int(case.waits.parts_us[rows].sum()),
        cost_us=sum(one.cost_us for _, one in members),
        pause_us=int(case.pauses[rows].sum()),
        reference=claim.reference,
        is_fatal=cause != NONE and _ended_the_run(case, rows),
    )


def _ended_the_run(case: Case, rows: Ints) -> bool:
    """Whether a run that broke off tried nothing more after one of these calls had failed."""
    failed = rows[case.marks.failed[rows]]
    if not case.broke_off or not len(failed):
        return False
    last = int(np.max(case.table.end[failed]))
    near = max(FINAL_SHARE * case.duration_us, FINAL_US)
    return last >= case.span[1] - near and last >= int(np.max(case.table.start))


def _reference(case: Case, group: int) -> Reference | None:
    return case.references.get(case.groups.places[group])


def _usual_errors(case: Case, suspect: Suspect) -> float:
    reference = case.references.get(suspect.place)
    if reference is None or reference.kind != "baseline":
        return 0.0
    return reference.profile.error_share
