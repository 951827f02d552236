"""The JSON Schema that editors get: it takes what ``load`` takes and refuses what it refuses."""

import builtins
import json
import random
import types
import typing
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships without types

from meshml_dbx.mesh.limits import Form, Limit
from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.schema import DRAFT, mesh_schema
from meshml_dbx.mesh.shapes import shape_of
from meshml_dbx.mesh.spec import Mesh
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE

VALIDATOR = Draft202012Validator(mesh_schema())
NAMES = ("a", "B.c", "x-1", "spiffe")
SEEDS = range(300)


def schema_takes(document: object) -> bool:
    """Whether an editor would be content."""
    return bool(VALIDATOR.is_valid(document))


def load_takes(document: object) -> bool:
    """Whether the file that holds the document is read without a problem."""
    return load_mesh(json.dumps(document, indent=1), source="mesh.yml").mesh is not None


# --- documents --------------------------------------------------------------------------------


def made(hint: object, rng: random.Random) -> Any:
    """A random value that a type of ``spec`` takes."""
    parts = get_args(hint)
    match get_origin(hint):
        case typing.Union | types.UnionType:
            return made(next(one for one in parts if one is not type(None)), rng)
        case typing.Annotated:
            return _within(parts[0], list(parts[1:]), rng)
        case typing.Literal:
            return rng.choice(parts)
        case builtins.tuple:
            return [made(parts[0], rng) for _ in range(rng.randint(0, 2))]
        case _:
            return _plain(hint, rng)


def _plain(hint: object, rng: random.Random) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        return _record(hint, rng)
    if get_origin(hint) is dict:
        return {rng.choice(NAMES): rng.choice(NAMES)}
    return rng.choice({str: NAMES, int: (-5, 0, 5), bool: (True, False)}[hint])  # type: ignore[index]  # no other types


def _within(inner: object, rules: list[Limit | Form], rng: random.Random) -> Any:
    limits = [rule for rule in rules if isinstance(rule, Limit)]
    if inner is int:
        return rng.randint(limits[0].least, limits[0].most or limits[0].least + 9)
    if inner is not str:
        value = made(inner, rng)
        while isinstance(value, list) and len(value) < limits[0].least:
            value += made(inner, rng)
        return value[: limits[0].most] if isinstance(value, list) else value
    forms = [rule for rule in rules if isinstance(rule, Form)]
    fitting = [
        it for it in (*NAMES, "/a", "123456789012") if not any(f.broken_by(it) for f in forms)
    ]
    return rng.choice(fitting)


def _record(cls: type, rng: random.Random) -> dict[str, Any]:
    shape = shape_of(cls)
    chosen = {key for key in shape.hints if key in shape.required or rng.random() < 0.4}
    chosen -= {*shape.exactly_one, *shape.at_most_one}
    if shape.exactly_one or shape.at_most_one:
        chosen.add(rng.choice(shape.exactly_one or shape.at_most_one))
    return {key: made(hint, rng) for key, hint in shape.hints.items() if key in chosen}


# --- mutations --------------------------------------------------------------------------------


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key or index in it."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _drop(holder: Any, key: Any) -> None:
    del holder[key]


def _misspell(holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)


def _replaced(value: object) -> Callable[[Any, Any], None]:
    def replace(holder: Any, key: Any) -> None:
        holder[key] = value

    return replace


MUTATIONS = (
    _drop,
    _misspell,
    *map(_replaced, ("", "!", "x" * 2000, -1, 10**6, 1.5, True, [], {}, [[]], {"a": "b"}, [1])),
)


def mutated(document: Any, rng: random.Random) -> Any:
    """The document with one thing changed somewhere."""
    changed = deepcopy(document)
    holder, key = rng.choice(list(_places(changed)))
    rng.choice(MUTATIONS)(holder, key)
    return changed


# --- tests ------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    """The draft that it names says that it is right."""
    Draft202012Validator.check_schema(mesh_schema())
    assert mesh_schema()["$schema"] == DRAFT


@pytest.mark.parametrize("path", [EXAMPLE, EVERY_FIELD], ids=lambda path: path.stem)
def test_an_example_meets_the_schema(path: Any) -> None:
    """An editor underlines nothing in a right file."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_what_load_takes_the_schema_takes(seed: int) -> None:
    """No right mesh is underlined."""
    document = made(Mesh, random.Random(seed))
    assert (load_takes(document), schema_takes(document)) == (True, True)


def test_what_load_refuses_the_schema_refuses() -> None:
    """One thing changed: both say the same of it; the many that both refuse make it a test."""
    refused = 0
    for seed in SEEDS:
        rng = random.Random(seed)
        document = made(Mesh, rng)
        for _ in range(10):
            broken = mutated(document, rng)
            taken = load_takes(broken)
            assert schema_takes(broken) == taken, json.dumps(broken)
            refused += not taken
    assert refused > len(SEEDS)


def test_every_field_is_in_the_schema_with_words() -> None:
    """An editor explains each object and completes each field."""
    known = mesh_schema()["$defs"]
    assert isinstance(known, dict)
    assert [name for name, one in known.items() if not one["description"]] == []
    assert known["Route"]["title"] == "Route"
    assert set(known["DnsDiscovery"]["properties"]) == {"hostname", "responseType", "ipPreference"}
    assert len(fields(Mesh)) == len(mesh_schema()["properties"])  # type: ignore[arg-type]  # a mapping
