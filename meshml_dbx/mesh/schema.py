"""The JSON Schema of mesh.yml, for editors: what they complete, explain and underline.

It is derived from the classes of ``spec``, so that an editor and ``load`` refuse the same. What a
schema cannot say (a name that nothing carries, a field written twice) is left to ``meshml check``.
"""

import builtins
import re
import types
import typing
from itertools import combinations
from typing import cast, get_args, get_origin

from meshml_dbx.mesh.limits import Form, Limit
from meshml_dbx.mesh.shapes import Shape, shape_of
from meshml_dbx.mesh.spec import Mesh

Schema = dict[str, object]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NOTHING: Schema = {"type": "null"}
# A plain 2 or yes is a text where a text is wanted; only a form can refuse it.
_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_PLAIN: dict[type, Schema] = {str: _TEXT, int: {"type": "integer"}, bool: {"type": "boolean"}}


def mesh_schema() -> Schema:
    """The schema of a mesh file, in JSON's own values.

    >>> sorted(mesh_schema()["$defs"])[:3]
    ['AccessLog', 'AcmCertificate', 'AcmTrust']
    """
    known: dict[str, Schema] = {}
    _schema_of(Mesh, known)
    top = known.pop(Mesh.__name__)
    return {"$schema": DRAFT, **top, "title": "mesh.yml", "$defs": dict(sorted(known.items()))}


def _schema_of(hint: object, known: dict[str, Schema]) -> Schema:
    """The schema of a type; those of classes are put beside, under their names."""
    parts = get_args(hint)
    match get_origin(hint):
        case typing.Union | types.UnionType:
            (inner,) = (one for one in parts if one is not type(None))
            found = _schema_of(inner, known)
        case typing.Annotated:
            found = _limited(_schema_of(parts[0], known), list(parts[1:]))
        case typing.Literal:
            found = {"enum": list(parts)}
        case builtins.tuple:
            found = {"type": "array", "items": _schema_of(parts[0], known)}
        case builtins.dict:
            found = {"type": "object", "additionalProperties": _TEXT}
        case _:
            plain = _PLAIN.get(cast("type", hint))
            found = plain or _reference(cast("type", hint), known)
    return found


def _limited(schema: Schema, rules: list[Limit | Form]) -> Schema:
    for rule in rules:
        schema = schema | (_range(schema, rule) if isinstance(rule, Limit) else _form(rule))
    return schema


def _range(schema: Schema, limit: Limit) -> Schema:
    least, most = {
        "integer": ("minimum", "maximum"),
        "array": ("minItems", "maxItems"),
        "object": ("minProperties", "maxProperties"),
    }.get(str(schema["type"]), ("minLength", "maxLength"))
    found: Schema = {least: limit.least}
    return found if limit.most is None else {**found, most: limit.most}


def _form(form: Form) -> Schema:
    """A form's pattern, and which numbers and truths written without quotes meet it as texts."""
    digits = [many for many in range(1, 17) if not form.broken_by("1" * many)]
    kinds = ["string", *(["number"] if digits else [])]
    kinds += [] if form.broken_by("true") else ["boolean"]
    schema: Schema = {"type": kinds, "pattern": f"^(?:{form.pattern})$"}
    if digits:
        schema["minimum"] = 10 ** (digits[0] - 1) if digits[0] > 1 else 0
        schema["maximum"] = 10 ** digits[-1] - 1
    return schema


def _reference(cls: type, known: dict[str, Schema]) -> Schema:
    if cls.__name__ not in known:
        known[cls.__name__] = {}  # a class that holds itself ends here
        known[cls.__name__] = _object(cls, shape_of(cls), known)
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _object(cls: type, shape: Shape, known: dict[str, Schema]) -> Schema:
    title, _, more = (cls.__doc__ or "").partition("\n")
    schema: Schema = {
        "title": re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls.__name__),
        "description": f"{title}\n{_prose(more)}".strip(),
        "type": "object",
        "properties": {
            key: _field(key, shape, _schema_of(hint, known)) for key, hint in shape.hints.items()
        },
        "additionalProperties": False,
    }
    if shape.required:
        schema["required"] = list(shape.required)
    if shape.exactly_one:
        schema["oneOf"] = [{"required": [key]} for key in shape.exactly_one]
    if shape.at_most_one:
        pairs = combinations(shape.at_most_one, 2)
        schema["not"] = {"anyOf": [{"required": list(pair)} for pair in pairs]}
    return schema


def _field(key: str, shape: Shape, schema: Schema) -> Schema:
    """A field's schema; one that may be left out may also be written without a value."""
    if key in {*shape.required, *shape.exactly_one, *shape.at_most_one}:
        return schema
    return {"anyOf": [schema, _NOTHING]}


def _prose(docstring: str) -> str:
    """The paragraphs of a docstring before its examples."""
    return " ".join(docstring.partition(">>>")[0].split())
