"""Who was called: calls grouped by virtual service, route, target and pattern.

A host outside the mesh goes by its authority. A service that shows more than ``MAX_PATTERNS``
patterns keeps its commonest; all others count as one, so that a diagnosis stays short whatever a
program puts in its paths. Runs that are compared are folded alike.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.table import CallTable, Ints

MAX_PATTERNS = 50
_WIDEST = 2**62
_DENSEST = 2**22  # below this many possible keys a table of them beats sorting the calls
_KEY_COLUMNS = ("virtual_service", "authority", "route", "target", "pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One thing that was called; ``in_mesh`` is False for a host that goes by its authority."""

    service: str
    route: str | None
    target: str | None
    pattern: str
    in_mesh: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """The one pattern that stands for a service's uncommon ones."""

    kept: frozenset[str]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distinct:
    """The distinct places of a table before folding: how many calls each has, and each row's."""

    places: tuple[Place, ...]
    counts: Ints
    row_place: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """The groups of a table: their places, the rows of each, and the group of each row."""

    places: tuple[Place, ...]
    rows: tuple[Ints, ...]
    row_group: Ints
    patterns: tuple[frozenset[str], ...]
    """The patterns that were folded into each group's; empty where nothing was."""

    def __len__(self) -> int:
        return len(self.places)


def distinct_places(table: CallTable) -> Distinct:
    """The distinct places of a table's calls."""
    row_place, first = _numbered(*_keys(table))
    return Distinct(
        places=tuple(_place(table, int(row)) for row in first),
        counts=np.bincount(row_place, minlength=len(first)).astype(np.int64),
        row_place=row_place,
    )


def folds_of(tables: Iterable[Distinct]) -> dict[str, Fold]:
    """How each service with too many patterns is folded, the same for all these tables."""
    counts: dict[str, Counter[str]] = {}
    for table in tables:
        for place, count in zip(table.places, table.counts.tolist(), strict=True):
            counts.setdefault(place.service, Counter())[place.pattern] += count
    return {
        service: _fold(counter)
        for service, counter in counts.items()
        if len(counter) > MAX_PATTERNS
    }


def group_calls(table: Distinct, folds: Mapping[str, Fold]) -> Groups:
    """The groups of a table's calls."""
    folded = [_folded(place, folds.get(place.service)) for place in table.places]
    groups = {place: number for number, place in enumerate(dict.fromkeys(folded))}
    target = np.array([groups[place] for place in folded], dtype=np.int64)
    row_group = target[table.row_place] if folded else table.row_place
    order = np.argsort(row_group, kind="stable")
    cuts = np.searchsorted(row_group[order], np.arange(1, len(groups)))
    merged: list[set[str]] = [set() for _ in groups]
    for before, after in zip(table.places, folded, strict=True):
        if before != after:
            merged[groups[after]].add(before.pattern)
    return Groups(
        places=tuple(groups),
        rows=tuple(np.split(order, cuts)) if groups else (),
        row_group=row_group,
        patterns=tuple(frozenset(names) for names in merged),
    )


def _keys(table: CallTable) -> tuple[Ints, int]:
    """One number per row that stands for its place, and the least number that none can have."""
    key, size = np.zeros(len(table), dtype=np.int64), 1
    for column in _KEY_COLUMNS:
        width = len(table.names[column]) + 1
        if size * width > _WIDEST:
            key, first = _numbered(key, size)
            size = len(first)
        key, size = key * width + table.codes[column] + 1, size * width
    return key, size


def _numbered(key: Ints, size: int) -> tuple[Ints, Ints]:
    """Keys renumbered from 0 without gaps, and the first row of each."""
    if size > _DENSEST:
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        return inverse.reshape(-1).astype(np.int64), first.astype(np.int64)
    first = np.full(size, -1, dtype=np.int64)
    first[key[::-1]] = np.arange(len(key) - 1, -1, -1)
    used = first >= 0
    return (np.cumsum(used) - 1)[key], first[used]


def _place(table: CallTable, row: int) -> Place:
    service = table.text("virtual_service", row)
    return Place(
        service=service or table.text("authority", row) or "unknown",
        route=table.text("route", row),
        target=table.text("target", row),
        pattern=table.text("pattern", row) or "-",
        in_mesh=service is not None,
    )


def _fold(counter: Counter[str]) -> Fold:
    ranked = sorted(counter, key=lambda pattern: (-counter[pattern], pattern))
    kept, rest = ranked[: MAX_PATTERNS - 1], ranked[MAX_PATTERNS - 1 :]
    return Fold(kept=frozenset(kept), name=_common_name(rest))


def _common_name(patterns: Sequence[str]) -> str:
    methods = {pattern.split(" ", 1)[0] for pattern in patterns}
    firsts = {[*pattern.split("/", 2), ""][1] for pattern in patterns}
    method = methods.pop() if len(methods) == 1 else "*"
    first = f"/{firsts.pop()}" if len(firsts) == 1 else ""
    return f"{method} {first}/{{…}}"


def _folded(place: Place, fold: Fold | None) -> Place:
    if fold is None or place.pattern in fold.kept:
        return place
    return Place(
        service=place.service,
        route=place.route,
        target=place.target,
        pattern=fold.name,
        in_mesh=place.in_mesh,
    )
