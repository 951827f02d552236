"""The words of ``mesh.spec`` against the API's own model, as botocore ships it.

Every member of every create request is looked up in our classes: its name, whether it is required,
its choices and its range. Where we differ on purpose, the reason stands here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import botocore.session  # type: ignore[import-untyped]  # ships without types
import pytest

from meshml_dbx.mesh import spec
from meshml_dbx.mesh.limits import Form, Limit
from meshml_dbx.mesh.shapes import shape_of

REQUESTS = {
    "CreateMesh": spec.MeshHead,
    "CreateVirtualNode": spec.VirtualNode,
    "CreateVirtualService": spec.VirtualService,
    "CreateVirtualRouter": spec.VirtualRouter,
    "CreateRoute": spec.Route,
    "CreateVirtualGateway": spec.VirtualGateway,
    "CreateGatewayRoute": spec.GatewayRoute,
}
NOT_OURS = {
    "clientToken": "makes a request safe to repeat; a file has no need of it",
    "tags": "a list of key and value there, one map here",
}
SAID_BY_NESTING = {
    "meshName": "one file holds one mesh",
    "virtualRouterName": "routes are nested in their router",
    "virtualGatewayName": "gateway routes are nested in their gateway",
}
OURS = {
    "routes": "nested here instead of naming their router",
    "gatewayRoutes": "nested here instead of naming their gateway",
    "meshOwner": "of a mesh the API tells its owner in the answer alone",
    "databricks": "the Databricks endpoint that a node is",
    "dataSource": "the upstream that a node is",
    "backendGroups": "known to the Kubernetes controller alone",
    "acm": "one class for both ends; a check says where App Mesh takes it",
}
OTHERWISE_REQUIRED = {
    "unit": "a time span without its unit says nothing",
    "value": "a time span without its value says nothing",
    "file": "the only kind of access log that there is",
    "virtualService": "the only kind of backend that there is",
    "spec": "a virtual service without a provider has nothing to write in it",
}
OTHERWISE_LIMITED = {
    "httpRetryEvents": "free texts there, the four that mean something here",
    "headers": "an empty list is as if it were not written",
    "queryParameters": "an empty list is as if it were not written",
    "metadata": "an empty list is as if it were not written",
    "listeners": "a gateway without a listener is no gateway",
    "hostname": "DNS takes no name over 255 characters",
    "prefix": "a route's prefix is as long as a path may be",
    "virtualServiceName": "as long as every other name of the API",
    "secretName": "as long as every other name of the API",
}


@dataclass(frozen=True)
class Pair:
    """A member of the API's model beside the hint of our field of that name."""

    path: str
    shape: Any
    hint: object
    required: tuple[bool, bool]


def pairs() -> Iterator[Pair]:
    """Every member of every create request with our counterpart."""
    model = botocore.session.get_session().get_service_model("appmesh")
    for operation, cls in REQUESTS.items():
        request = model.operation_model(operation).input_shape
        skipped = SAID_BY_NESTING.keys() - shape_of(cls).hints.keys()
        yield from _members(operation, request, cls, skipped=skipped)


def _members(path: str, shape: Any, cls: type, *, skipped: set[str]) -> Iterator[Pair]:
    ours = shape_of(cls)
    for name, member in shape.members.items():
        if name in NOT_OURS or name in skipped:
            continue
        assert name in ours.hints, f"{path}.{name} of the API cannot be written in mesh.yml"
        both = (name in shape.required_members, name in ours.required)
        yield from _below(Pair(f"{path}.{name}", member, ours.hints[name], both))


def _below(pair: Pair) -> Iterator[Pair]:
    yield pair
    inner, _ = unwrapped(pair.hint)
    if pair.shape.type_name == "structure":
        assert isinstance(inner, type), f"{pair.path} is a structure of the API"
        yield from _members(pair.path, pair.shape, inner, skipped=set())
    elif pair.shape.type_name == "list":
        item = get_args(inner)[0]
        yield from _below(Pair(f"{pair.path}[]", pair.shape.member, item, (True, True)))


def unwrapped(hint: object) -> tuple[object, list[Limit | Form]]:
    """The type behind optional and annotated, and the rules that bind it."""
    rules: list[Limit | Form] = []
    while get_origin(hint) in {Annotated, Union, UnionType}:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            rules += more
        else:
            (hint,) = (one for one in get_args(hint) if one is not type(None))
    return hint, rules


PAIRS = list(pairs())


def test_the_whole_model_was_walked() -> None:
    """A walk that stops early would prove nothing."""
    assert len(PAIRS) > 500
    assert {it.path.split(".")[0] for it in PAIRS} == set(REQUESTS)


def test_what_the_api_requires_is_required_here_and_nothing_else() -> None:
    """Whatever the API took is taken, except what says nothing when it is left out."""
    differ = {it.path.rsplit(".", 1)[-1] for it in PAIRS if it.required[0] != it.required[1]}
    assert differ == OTHERWISE_REQUIRED.keys()


def test_choices_are_the_apis() -> None:
    """A word that the API knows is known here, and no other."""
    for it in PAIRS:
        theirs = it.shape.metadata.get("enum")
        inner, _ = unwrapped(it.hint)
        if theirs or get_origin(inner) is Literal:
            if it.shape.name.startswith("HttpRetryPolicyEvent"):
                continue  # see OTHERWISE_LIMITED
            assert sorted(get_args(inner)) == sorted(theirs or ()), it.path


def test_ranges_are_the_apis() -> None:
    """The least and the most are those of the model, or within them for a reason given above."""
    found = set()
    for it in PAIRS:
        if it.shape.metadata.get("enum") or it.shape.type_name == "structure":
            continue
        _, rules = unwrapped(it.hint)
        limits = [rule for rule in rules if isinstance(rule, Limit)]
        theirs = it.shape.metadata.get("min"), it.shape.metadata.get("max")
        ours = (limits[0].least, limits[0].most) if limits else (None, None)
        if ours != theirs and it.shape.name != "AccountId":  # ours is a form: twelve digits
            found.add(it.path.rsplit(".", 1)[-1].removesuffix("[]"))
    assert found == OTHERWISE_LIMITED.keys()


def test_unions_are_the_apis() -> None:
    """Of a union's members exactly one is taken."""
    for it in PAIRS:
        inner, _ = unwrapped(it.hint)
        if it.shape.type_name == "structure" and len(it.shape.members) > 1:
            ours = shape_of(inner).exactly_one if isinstance(inner, type) else ()
            if it.shape.metadata.get("union"):
                assert set(ours) >= set(it.shape.members), it.path


@pytest.mark.parametrize("cls", REQUESTS.values(), ids=lambda cls: cls.__name__)
def test_what_is_ours_alone_has_a_reason(cls: type) -> None:
    """Whoever pastes the API's own requests must know what else there is."""
    model = botocore.session.get_session().get_service_model("appmesh")
    operation = next(name for name, one in REQUESTS.items() if one is cls)
    extra = set(_ours_alone(cls, model.operation_model(operation).input_shape))
    assert extra <= OURS.keys()


def _ours_alone(cls: type, shape: Any) -> Iterator[str]:
    ours = shape_of(cls)
    yield from ours.hints.keys() - shape.members.keys()
    for name, member in shape.members.items():
        inner = unwrapped(ours.hints[name])[0] if name in ours.hints else None
        if member.type_name == "list" and inner is not None and name != "tags":
            yield from _ours_alone_in_entries(inner, member)
        elif member.type_name == "structure" and isinstance(inner, type):
            yield from _ours_alone(inner, member)


def _ours_alone_in_entries(hint: object, shape: Any) -> Iterator[str]:
    inner = unwrapped(get_args(hint)[0])[0]
    if shape.member.type_name == "structure" and isinstance(inner, type):
        yield from _ours_alone(inner, shape.member)
