"""Random whole meshes for property tests, derived from the classes of ``spec`` themselves.

``any_mesh`` gives any mesh that ``load`` takes: every class, every field, every member of every
union within its range, each name once. ``connected`` turns such a mesh into one whose references
all lead somewhere. ``any_value`` gives any value of one class.
"""

import string
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin
from zlib import crc32

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from meshml_dbx.mesh import limits
from meshml_dbx.mesh.limits import Form, Limit
from meshml_dbx.mesh.shapes import camel, shape_of
from meshml_dbx.mesh.spec import (
    BackendGroupSpec,
    ClientTls,
    ListenerTls,
    Mesh,
    MeshClientSpec,
    NodeProvider,
    RouterProvider,
    TargetService,
    VirtualNodeSpec,
    VirtualServiceBackend,
    WeightedTarget,
)

_Value = TypeVar("_Value")
_Entry = TypeVar("_Entry")
_LONGEST_LIST = 2
_LONGEST_TEXT = 12
_LARGEST_NUMBER = 2**31 - 1
_IN_NAMES = string.ascii_letters + string.digits

# Texts that a writer may trip over, beside what hypothesis makes of all characters.
_AWKWARD = ("no", "Null", "~", "1.10", "0x1f", "12:30", "- a", "a: b", "#", "*a", "<<", "%REQ(X)%")


# --- meshes -----------------------------------------------------------------------------------


def any_mesh(*, api_only: bool = False) -> SearchStrategy[Mesh]:
    """Any mesh that ``load`` takes; ``api_only``: without what App Mesh's API cannot say."""
    found = any_value(Mesh).map(_with_each_name_once)
    return found.map(_in_the_words_of_the_api) if api_only else found


def connected(mesh: Mesh) -> Mesh:
    """The mesh with each reference led to something that is declared; nothing else changes.

    Which one follows from the name that stood there, so that hypothesis can still shrink it. What
    has nothing to lead to keeps its name.
    """
    nodes = [one.virtual_node_name for one in mesh.virtual_nodes]
    routers = [one.virtual_router_name for one in mesh.virtual_routers]
    services = [one.virtual_service_name for one in mesh.virtual_services]
    groups = [one.backend_group_name for one in mesh.backend_groups]
    known = {
        (WeightedTarget, "virtual_node"): nodes,
        (NodeProvider, "virtual_node_name"): nodes,
        (RouterProvider, "virtual_router_name"): routers,
        (TargetService, "virtual_service_name"): services,
        (VirtualServiceBackend, "virtual_service_name"): services,
        (BackendGroupSpec, "virtual_services"): services,
        (VirtualNodeSpec, "backend_groups"): groups,
        (MeshClientSpec, "backend_groups"): groups,
    }
    return cast("Mesh", _led(mesh, known))


def _led(value: object, known: Mapping[tuple[type, str], list[str]]) -> object:
    if isinstance(value, tuple):
        return tuple(_led(item, known) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed = {}
    for one in fields(value):
        item, names = getattr(value, one.name), known.get((type(value), one.name))
        changed[one.name] = _one_of(item, names) if names else _led(item, known)
    return replace(value, **changed)


def _one_of(name: object, names: list[str]) -> object:
    """One of the names, or several, told by the text that stood there."""
    if isinstance(name, tuple):
        return tuple(dict.fromkeys(_one_of(one, names) for one in name))
    return names[crc32(str(name).encode()) % len(names)]


def _with_each_name_once(mesh: Mesh) -> Mesh:
    """The first entry of each name, in each list of entries that have names."""
    routers = (replace(one, routes=_once(one.routes)) for one in _once(mesh.virtual_routers))
    gateways = (
        replace(one, gateway_routes=_once(one.gateway_routes))
        for one in _once(mesh.virtual_gateways)
    )
    return replace(
        mesh,
        clients=_once(mesh.clients),
        virtual_nodes=_once(mesh.virtual_nodes),
        virtual_routers=tuple(routers),
        virtual_services=_once(mesh.virtual_services),
        virtual_gateways=tuple(gateways),
        backend_groups=_once(mesh.backend_groups),
    )


def _once(entries: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
    found: dict[str, _Entry] = {}
    for entry in entries:
        found.setdefault(getattr(entry, fields(cast("Any", entry))[0].name), entry)
    return tuple(found.values())


def _in_the_words_of_the_api(mesh: Mesh) -> Mesh:
    mesh = cast("Mesh", _with_acm_where_it_may_be(mesh))
    nodes = (
        replace(one, databricks=None, data_source=None, spec=replace(one.spec, backend_groups=()))
        for one in mesh.virtual_nodes
    )
    return replace(
        mesh,
        mesh=replace(mesh.mesh, mesh_owner=None),
        injected_defaults="none",
        clients=(),
        backend_groups=(),
        virtual_nodes=tuple(nodes),
    )


def _with_acm_where_it_may_be(value: object) -> object:
    """Certificates of ACM at listeners alone, its authorities at callers alone: the API's rule."""
    if isinstance(value, tuple):
        return tuple(_with_acm_where_it_may_be(item) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    pairs = ((one.name, getattr(value, one.name)) for one in fields(value))
    found = replace(value, **{name: _with_acm_where_it_may_be(item) for name, item in pairs})
    if isinstance(found, ClientTls) and found.certificate and found.certificate.acm:
        return replace(found, certificate=None)
    if isinstance(found, ListenerTls) and found.validation and found.validation.trust.acm:
        return replace(found, validation=None)
    return found


# --- values of one class ----------------------------------------------------------------------


def any_value(cls: type[_Value]) -> SearchStrategy[_Value]:
    """Any value of a class of spec, within its ranges."""
    found: SearchStrategy[_Value] = _cached(cast("type", cls))
    return found


@cache
def _cached(cls: type) -> SearchStrategy[Any]:
    return st.deferred(lambda: _values(cls))


def _values(cls: type) -> SearchStrategy[Any]:
    shape = shape_of(cls)
    strategies = {
        attribute: _of_hint(shape.hints[key], required=key in shape.required)
        for key, attribute in shape.attributes.items()
    }
    exactly = [shape.attributes[key] for key in shape.exactly_one]
    at_most = [shape.attributes[key] for key in shape.at_most_one]
    chosen = exactly or at_most
    if not chosen:
        return st.builds(cls, **strategies)
    common = {name: one for name, one in strategies.items() if name not in chosen}
    kinds = [
        st.builds(cls, **common, **{name: _of_hint(_without_none(shape.hints[camel(name)]))})
        for name in chosen
    ]
    return st.one_of(kinds if exactly else [st.builds(cls, **common), *kinds])


def _of_hint(hint: object, *, required: bool = True) -> SearchStrategy[Any]:
    inner = _without_none(hint)
    if inner is not hint:
        return st.none() | _of_hint(inner)
    if get_origin(hint) is Annotated:
        return _of_annotated(*get_args(hint), required=required)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) in (tuple, dict):
        return _of_many(hint, least=0, most=_LONGEST_LIST)
    plain: dict[object, SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-_LARGEST_NUMBER, _LARGEST_NUMBER),
        str: _free,
    }
    return plain[hint] if hint in plain else any_value(cast("type", hint))


def _of_annotated(hint: object, *rules: Limit | Form, required: bool) -> SearchStrategy[Any]:
    for rule in rules:
        if isinstance(rule, Form):
            return _OF_FORM[rule.pattern]
    (limit,) = (rule for rule in rules if isinstance(rule, Limit))
    if hint is int:
        return st.integers(limit.least, _LARGEST_NUMBER if limit.most is None else limit.most)
    if hint is str:
        return _free
    most = _LONGEST_LIST if limit.most is None else min(limit.most, _LONGEST_LIST)
    several = _of_many(hint, least=limit.least, most=max(most, limit.least))
    return several if required or get_origin(hint) is dict else st.just(()) | several


def _of_many(hint: object, *, least: int, most: int) -> SearchStrategy[Any]:
    if get_origin(hint) is dict:
        return st.dictionaries(_free, _free, min_size=least, max_size=most)
    return st.lists(_of_hint(get_args(hint)[0]), min_size=least, max_size=most).map(tuple)


def _without_none(hint: object) -> object:
    """The type of a field that may also be None; any other type as it is."""
    if get_origin(hint) not in (Union, UnionType) or NoneType not in get_args(hint):
        return hint
    (inner,) = (one for one in get_args(hint) if one is not NoneType)
    return inner


# --- texts ------------------------------------------------------------------------------------


def _pattern(hint: object) -> str:
    return next(rule.pattern for rule in get_args(hint) if isinstance(rule, Form))


_characters = st.characters(codec="utf-8", exclude_categories=["Cs"])
_free = st.text(_characters, min_size=1, max_size=_LONGEST_TEXT) | st.sampled_from(_AWKWARD)
_names = st.builds(
    str.__add__,
    st.sampled_from(_IN_NAMES),
    st.text(_IN_NAMES + "._-", max_size=_LONGEST_TEXT),
)
_OF_FORM: dict[str, SearchStrategy[str]] = {
    _pattern(limits.Name): _names,
    _pattern(limits.SecretName): _names | _names.map("spiffe://{}".format),
    _pattern(limits.AccountId): st.text(string.digits, min_size=12, max_size=12),
    _pattern(limits.UrlPath): st.text(_characters, max_size=_LONGEST_TEXT).map("/{}".format),
}
