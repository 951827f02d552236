"""The graph of a run's calls: client → virtual service → route → target, with numbers on each.

Goes in: the finished and unfinished calls, and per path the wait and the blame that the diagnosis
found. Comes out: a ``FlowMap`` of bounded size, the slowest paths first. Pure.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal

from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns, Coded
from meshml_dbx.traffic.flags import flag_set

Column = Literal["client", "virtual_service", "route", "target"]
COLUMNS: tuple[Column, ...] = ("client", "virtual_service", "route", "target")

Group = tuple[str, str, str]
"""Virtual service, or a foreign host's name; route; target. Empty where a call reached none."""

MAX_PATHS = 40
FIRST_ERROR = 500
CALLER_GONE = frozenset({"DC", "DR"})
NO_ROUTE = "NR"
CLIENT = "client"
"""The observer of calls that the calling process recorded itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How the calls over one path, stop or link went.

    ``errors`` are calls that ended with 5xx, no route, or no answer to a caller that still waited;
    ``p95_ms`` is that of all others, None where there is none. ``wait_s`` is None where the wait
    of several clients cannot be told apart.

    >>> Numbers(calls=3).errors
    0
    """

    calls: int = 0
    errors: int = 0
    retries: int = 0
    in_flight: int = 0
    wait_s: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where calls pass. A route's name is unique only within its ``virtual_service``.

    >>> Place(column="target", name="labels-v2").virtual_service
    ''
    """

    column: Column
    name: str
    virtual_service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One place of the picture with the numbers of all calls that pass it.

    ``is_culprit``: a marked path ends here.
    """

    place: Place
    numbers: Numbers
    marked: bool = False
    is_culprit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The calls that pass from one place to one in the next column."""

    source: Place
    target: Place
    numbers: Numbers
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One whole way through the columns, with the calls that took it."""

    client: str
    virtual_service: str
    route: str
    target: str
    numbers: Numbers
    marked: bool = False

    @property
    def group(self) -> Group:
        """The path without its client."""
        return self.virtual_service, self.route, self.target

    @property
    def places(self) -> tuple[Place, ...]:
        """The path's place in each column; it ends at a host that no route or target is known of.

        >>> path = Path(client="a", virtual_service="b", route="", target="", numbers=Numbers())
        >>> [place.name for place in path.places]
        ['a', 'b']
        """
        known = (
            Place(column="client", name=self.client),
            Place(column="virtual_service", name=self.virtual_service),
        )
        if not (self.route or self.target):
            return known
        return (
            *known,
            Place(column="route", name=self.route, virtual_service=self.virtual_service),
            Place(column="target", name=self.target),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMap:
    """Who talked to whom: paths by wait, most first, and what they add up to.

    ``left_out`` counts the paths beyond the bound; a marked one is never left out.

    >>> flow_of(CallColumns.of([])).paths
    ()
    """

    paths: tuple[Path, ...] = ()
    stops: tuple[Stop, ...] = ()
    links: tuple[Link, ...] = ()
    left_out: int = 0


@dataclass(slots=True)
class _Tally:
    """The calls of one path while they are counted; durations, sorted, are of answered calls."""

    calls: int = 0
    durations_us: Sequence[int] = ()
    errors: int = 0
    retries: int = 0
    in_flight: int = 0


_Key = tuple[str, str, str, str]


def side_by_side(paths: Sequence[Path]) -> list[Path]:
    """The paths with those of one client, service and route next to each other, else in order."""
    first: dict[tuple[Place, ...], int] = {}
    for index, path in enumerate(paths):
        for depth in range(1, len(COLUMNS)):
            first.setdefault(path.places[:depth], index)
    return sorted(
        paths,
        key=lambda path: [first[path.places[:depth]] for depth in range(1, len(COLUMNS))],
    )


def flow_of(
    calls: CallColumns,
    *,
    in_flight: Iterable[Call] = (),
    waits: Mapping[Group, float] | None = None,
    marked: Collection[Group] = (),
    at_most: int = MAX_PATHS,
) -> FlowMap:
    """The map of these calls.

    Args:
        calls: the finished calls.
        in_flight: calls without an end; they draw a path even when none on it has finished.
        waits: seconds waited, by virtual service, route and target.
        marked: the paths to blame.
        at_most: how many paths to keep; the marked ones, then those waited for the longest.
    """
    tallies = _tally(calls, in_flight)
    ranked = _ranked(tallies, waits or {}, marked)
    kept = ranked[: max(at_most, sum(key[1:] in marked for key in ranked))]
    paths = tuple(_path(key, tallies, waits or {}, marked) for key in kept)
    return FlowMap(
        paths=paths,
        stops=_stops(side_by_side(paths), tallies, waits or {}),
        links=_links(side_by_side(paths), tallies, waits or {}),
        left_out=len(ranked) - len(kept),
    )


def _tally(calls: CallColumns, in_flight: Iterable[Call]) -> dict[_Key, _Tally]:
    """What happened on each path."""
    tallies = _tally_finished(calls)
    for call in in_flight:
        key = (
            call.client or "",
            call.virtual_service or call.authority or "",
            call.route or "",
            call.target or "",
        )
        tallies.setdefault(key, _Tally()).in_flight += 1
    return tallies


def _tally_finished(calls: CallColumns) -> dict[_Key, _Tally]:
    columns = [calls.texts[name] for name in (*COLUMNS, "authority")]
    rows = list(zip(*(column.codes for column in columns), strict=True))
    answered: dict[tuple[int, ...], array[int]] = {row: array("q") for row in set(rows)}
    errors: Counter[tuple[int, ...]] = Counter()
    for row, duration, bad in zip(
        rows, calls.numbers["duration_us"], _are_errors(calls), strict=True
    ):
        if bad:
            errors[row] += 1
        else:
            answered[row].append(duration)
    retries: Counter[tuple[int, ...]] = Counter()
    for row, again in zip(rows, _retries(calls), strict=True):
        if again:
            retries[row] += again
    tallies: dict[_Key, _Tally] = {}
    for row, durations in answered.items():
        tally = tallies.setdefault(_key_of_row(row, columns), _Tally())
        tally.calls += len(durations) + errors[row]
        tally.durations_us = sorted([*tally.durations_us, *durations])
        tally.errors += errors[row]
        tally.retries += retries[row]
    return tallies


def _retries(calls: CallColumns) -> Iterator[int]:
    """The tries of each call after its first.

    A library above the one that a process records tries again by a call of its own, which is one.
    """
    observers, numbers = calls.texts["observer"], calls.numbers
    own = observers.names.index(CLIENT) if CLIENT in observers.names else None
    for attempts, attempt, observer in zip(
        numbers["attempts"], numbers["attempt"], observers.codes, strict=True
    ):
        yield attempts - 1 if attempts > 1 else int(observer == own and attempt > 1)


def _key_of_row(row: tuple[int, ...], columns: Sequence[Coded]) -> _Key:
    client, service, route, target, authority = (
        "" if code < 0 else column.names[code] for column, code in zip(columns, row, strict=True)
    )
    return client, service or authority, route, target


def _are_errors(calls: CallColumns) -> Iterator[bool]:
    flags = [flag_set(name) for name in calls.texts["flags"].names]
    gone = {code for code, names in enumerate(flags) if names & CALLER_GONE}
    astray = {code for code, names in enumerate(flags) if NO_ROUTE in names}
    for code, flag in zip(calls.numbers["code"], calls.texts["flags"].codes, strict=True):
        yield code >= FIRST_ERROR or (code <= 0 and flag not in gone) or flag in astray


def _ranked(
    tallies: Mapping[_Key, _Tally], waits: Mapping[Group, float], marked: Collection[Group]
) -> list[_Key]:
    """Paths: the marked, then the longest waited for, then the busiest."""
    return sorted(
        tallies,
        key=lambda key: (
            key[1:] not in marked,
            -waits.get(key[1:], 0.0),
            -tallies[key].calls,
            key,
        ),
    )


def _path(
    key: _Key,
    tallies: Mapping[_Key, _Tally],
    waits: Mapping[Group, float],
    marked: Collection[Group],
) -> Path:
    client, virtual_service, route, target = key
    return Path(
        client=client,
        virtual_service=virtual_service,
        route=route,
        target=target,
        numbers=_numbers([key], tallies, waits),
        marked=key[1:] in marked,
    )


def _stops(
    paths: Sequence[Path], tallies: Mapping[_Key, _Tally], waits: Mapping[Group, float]
) -> tuple[Stop, ...]:
    """The places of the paths, each once, in the paths' order, column by column."""
    by_place: dict[Place, list[Path]] = {}
    for column in range(len(COLUMNS)):
        for path in paths:
            for place in path.places[column : column + 1]:
                by_place.setdefault(place, []).append(path)
    return tuple(
        Stop(
            place=place,
            numbers=_numbers([_key(path) for path in through], tallies, waits),
            marked=any(path.marked for path in through),
            is_culprit=any(path.marked and path.places[-1] == place for path in through),
        )
        for place, through in by_place.items()
    )


def _links(
    paths: Sequence[Path], tallies: Mapping[_Key, _Tally], waits: Mapping[Group, float]
) -> tuple[Link, ...]:
    by_ends: dict[tuple[Place, Place], list[Path]] = {}
    for column in range(len(COLUMNS) - 1):
        for path in paths:
            for ends in pairwise(path.places[column : column + 2]):
                by_ends.setdefault(ends, []).append(path)
    return tuple(
        Link(
            source=source,
            target=target,
            numbers=_numbers([_key(path) for path in through], tallies, waits),
            marked=any(path.marked for path in through),
        )
        for (source, target), through in by_ends.items()
    )


def _key(path: Path) -> _Key:
    return path.client, path.virtual_service, path.route, path.target


def _numbers(
    keys: Sequence[_Key], tallies: Mapping[_Key, _Tally], waits: Mapping[Group, float]
) -> Numbers:
    """The numbers of several paths together."""
    chosen = [tallies[key] for key in keys]
    durations = sorted(chain.from_iterable(tally.durations_us for tally in chosen))
    return Numbers(
        calls=sum(tally.calls for tally in chosen),
        errors=sum(tally.errors for tally in chosen),
        retries=sum(tally.retries for tally in chosen),
        in_flight=sum(tally.in_flight for tally in chosen),
        wait_s=_wait(keys, tallies, waits),
        p95_ms=_p95_ms(durations),
    )


def _wait(
    keys: Sequence[_Key], tallies: Mapping[_Key, _Tally], waits: Mapping[Group, float]
) -> float | None:
    """The wait of the paths' groups; None where another client has a part in one of them."""
    groups = {key[1:] for key in keys}
    others = {key[1:] for key in tallies if key not in keys}
    return None if groups & others else sum(waits.get(group, 0.0) for group in groups)


def _p95_ms(durations_us: Sequence[int]) -> float | None:
    """The smallest duration that 95 % of the answered calls do not exceed."""
    if not durations_us:
        return None
    rank = -(-95 * len(durations_us) // 100)
    return durations_us[rank - 1] / 1000
