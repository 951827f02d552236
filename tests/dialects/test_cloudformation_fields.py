"""CloudFormation's names of fields, and its texts for numbers, as the mesh file writes them."""

import json
from pathlib import Path
from typing import get_args, get_origin

import pytest

from meshml_dbx.dialects.template import APP_MESH, MESH_TYPES
from meshml_dbx.dialects.template_fields import camel_case, shaped
from meshml_dbx.dialects.tree import Entry, Place, Scalar, Table, plain
from meshml_dbx.mesh import spec as words
from meshml_dbx.mesh.shapes import shape_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("TLS", "tls"),
        ("ACM", "acm"),
        ("PortMapping", "portMapping"),
        ("maxServerErrors", "maxServerErrors"),
        ("HTTP2", "http2"),
        ("TLSMode", "tlsMode"),
        ("X", "x"),
        ("", ""),
    ],
)
def test_a_name_that_no_class_knows_is_recased_by_rule(written: str, meant: str) -> None:
    """So that the finding of an unknown field names it as the mesh file would."""
    assert camel_case(written) == meant


def test_a_misspelt_field_stays_in_its_place() -> None:
    """Loading the mesh reports it; it is not dropped, nor guessed."""
    place = Place(source="app.yaml", line=1)
    node = Table(
        place=place,
        entries=(Entry(key="Lisstener", place=place, value=Scalar(value="x", place=place)),),
    )
    assert plain(shaped(node, words.VirtualNodeSpec)) == {"lisstener": "x"}


SCHEMAS = "data/schemas/resources"


def test_every_field_that_cloudformation_documents_has_its_place() -> None:
    """The schemas of cfn-lint: each property is a field of the class, of the same type."""
    cfnlint = pytest.importorskip("cfnlint")
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (Path(cfnlint.__file__).parent / SCHEMAS).glob("*.json")
        if "AWS::AppMesh::" in path.read_text(encoding="utf-8")
    ]
    schemas = {it["typeName"]: it for it in found if it["typeName"] in MESH_TYPES}
    if len(schemas) < len(MESH_TYPES):
        pytest.skip("this release of cfn-lint has no schemas of App Mesh")
    strange = [
        problem
        for name, schema in schemas.items()
        for problem in differences(
            schema["properties"]["Spec"],
            schema["definitions"],
            getattr(words, f"{name.removeprefix(APP_MESH)}Spec"),
            name,
        )
    ]
    assert strange == []


def differences(
    schema: dict[str, object], definitions: dict[str, dict[str, object]], hint: object, path: str
) -> list[str]:
    """Where a JSON Schema asks for what a class of ours does not take."""
    if "$ref" in schema:
        schema = definitions[str(schema["$ref"]).rsplit("/", 1)[-1]]
    place = Place(source="schema", line=1)
    if schema["type"] == "object":
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        nothing = Scalar(value=None, place=place)
        entries = (Entry(key=key, place=place, value=nothing) for key in properties)
        table = shaped(Table(place=place, entries=tuple(entries)), hint)
        assert isinstance(table, Table)
        hints = words_of(hint)
        return [
            problem
            for key, (name, inner) in zip(table.keys(), properties.items(), strict=True)
            for problem in (
                differences(inner, definitions, hints[key], f"{path}.{name}")
                if key in hints
                else [f"{path}.{name}"]
            )
        ]
    if schema["type"] == "array":
        items = schema["items"]
        assert isinstance(items, dict)
        return differences(items, definitions, item_of(hint), f"{path}[]")
    example = {"integer": "7", "boolean": "true", "string": "x"}[str(schema["type"])]
    value = plain(shaped(Scalar(value=example, place=place, quoted=True), hint))
    wanted = {"integer": 7, "boolean": True, "string": "x"}[str(schema["type"])]
    return [] if value == wanted else [f"{path} is {schema['type']}"]


def words_of(hint: object) -> dict[str, object]:
    """The fields of the class behind a type, by their names in the mesh file."""
    cls = bare(hint)
    assert isinstance(cls, type)
    return dict(shape_of(cls).hints)


def item_of(hint: object) -> object:
    """The type of a list's entries."""
    return get_args(bare(hint))[0]


def bare(hint: object) -> object:
    """A type without limits and without None."""
    if hasattr(hint, "__metadata__"):
        return bare(get_args(hint)[0])
    if isinstance(hint, type) or get_origin(hint) is tuple:
        return hint
    return bare(next(it for it in get_args(hint) if it is not type(None)))
