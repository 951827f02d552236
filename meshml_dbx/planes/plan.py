"""What a plane makes of a mesh, as values: resources, and the steps that bring them about.

A plane turns a Mesh into resources; ``diff`` compares them with what is there and orders the steps;
what carries a plan out takes them from there. A body may name another resource's id before there is
one, and a value that only its owner knows:

>>> reference("service", "labels-1f6c2a90")
'${service/labels-1f6c2a90.id}'
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from meshml_dbx.mesh.limits import PARAMETER

Attribute = Literal["id", "arn"]
Action = Literal["create", "update", "delete", "keep"]
_Body = Mapping[str, object]
_Made = Callable[[re.Match[str]], str]
_REFERENCE = re.compile(r"\$\{([a-z-]+/[a-z0-9-]+)\.(id|arn)\}")


def reference(kind: str, name: str, attribute: Attribute = "id") -> str:
    """The text that stands for a resource's id or ARN until the resource is there."""
    return f"${{{kind}/{name}.{attribute}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing that a plane wants to exist, in the plane's own words.

    >>> Resource(kind="cluster", name="ingress/labels-v1/18081", body={"type": "STATIC"}).key
    'cluster/ingress/labels-v1/18081'
    """

    kind: str
    name: str
    body: Mapping[str, object]

    @property
    def key(self) -> str:
        """Kind and name: what tells a resource from all others of its plane."""
        return f"{self.kind}/{self.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys of the resources that its body refers to, which have to be there first."""
        found = (key for text in _texts(self.body) for key, _ in _REFERENCE.findall(text))
        return tuple(dict.fromkeys(found))

    @property
    def unknowns(self) -> tuple[str, ...]:
        """The values that its body leaves open."""
        found = (name for text in _texts(self.body) for name in PARAMETER.findall(text))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens to one resource.

    >>> network = Resource(kind="service-network", name="ml", body={"name": "ml"})
    >>> Step(action="create", resource=network).resource.key
    'service-network/ml'
    """

    action: Action
    resource: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in an order in which each finds what it needs.

    >>> Plan(steps=()).unknowns
    ()
    """

    steps: tuple[Step, ...]

    @property
    def unknowns(self) -> tuple[str, ...]:
        """The values that the plan leaves open."""
        return tuple(dict.fromkeys(name for it in self.steps for name in it.resource.unknowns))


def diff(desired: Sequence[Resource], observed: Iterable[Resource] = ()) -> Plan:
    """The steps from what is there to what is wanted; what nobody wants any more goes last."""
    there = {it.key: it for it in observed}
    steps = [Step(action=_action(it, there.get(it.key)), resource=it) for it in order(desired)]
    wanted = {it.key for it in desired}
    gone = [it for key, it in there.items() if key not in wanted]
    steps += [Step(action="delete", resource=it) for it in reversed(order(gone))]
    return Plan(steps=tuple(steps))


def _action(wanted: Resource, there: Resource | None) -> Action:
    if there is None:
        return "create"
    return "keep" if there.body == wanted.body else "update"


def order(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    """The resources, each after those that it refers to, else as given.

    References to what is not among them do not count: it is there, or it is somebody else's.
    """
    by_key = {it.key: it for it in resources}
    placed: dict[str, Resource] = {}
    for it in resources:
        _place(it, by_key, placed, ())
    return tuple(placed.values())


def _place(
    resource: Resource,
    by_key: Mapping[str, Resource],
    placed: dict[str, Resource],
    waiting: tuple[str, ...],
) -> None:
    if resource.key in placed:
        return
    if resource.key in waiting:
        raise ValueError(f"resources wait for one another: {' → '.join((*waiting, resource.key))}")
    for key in resource.needs:
        if key in by_key:
            _place(by_key[key], by_key, placed, (*waiting, resource.key))
    placed[resource.key] = resource


# --- texts in bodies --------------------------------------------------------------------------


def fill(resource: Resource, values: Mapping[str, str]) -> Resource:
    """The resource with these values in place of those that it leaves open."""

    def given(found: re.Match[str]) -> str:
        return values.get(found[1], found[0])

    return replace(resource, body=_rewritten(resource.body, PARAMETER, given))


def resolve(resource: Resource, ids: Mapping[str, Mapping[Attribute, str]]) -> Resource:
    """The resource with the ids and ARNs, by key, of what it refers to."""

    def known(found: re.Match[str]) -> str:
        return ids[found[1]][cast("Attribute", found[2])]

    return replace(resource, body=_rewritten(resource.body, _REFERENCE, known))


def _rewritten(body: Mapping[str, object], pattern: re.Pattern[str], made: _Made) -> _Body:
    def walk(value: object) -> object:
        if isinstance(value, str):
            return pattern.sub(made, value)
        if isinstance(value, Mapping):
            return {key: walk(one) for key, one in value.items()}
        return [walk(one) for one in value] if isinstance(value, list) else value

    return cast("_Body", walk(body))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
