"""Which dialect a document is in, told by its shape."""

from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Literal, get_args

from meshml_dbx.dialects.api_json import DESCRIBED, NAME_FIELDS, kind_of_name
from meshml_dbx.dialects.own import ENTRY_LISTS
from meshml_dbx.dialects.tree import Node, Scalar, Series, Table

Dialect = Literal["api-json", "cloudformation", "kubernetes", "terraform", "own"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
_TERRAFORM = {".tf", ".tfvars", ".hcl"}
_LISTED = ("meshes", "routes", "gatewayRoutes", *ENTRY_LISTS)
_OURS = {"mesh", "tags", "injectedDefaults", *ENTRY_LISTS}


def dialect_of(tree: Node) -> Dialect | None:
    """The dialect of a document; None if it is no definition in any of them.

    A Kubernetes document that defines nothing of App Mesh is Kubernetes' all the same, because
    others may refer to it.
    """
    if not isinstance(tree, Table):
        return None
    return next((dialect for dialect, is_in in _SHAPES if is_in(tree)), None)


def told_apart(trees: Iterable[Node]) -> str | None:
    """What is near to a definition and is none, with what to import in its stead."""
    tables = [tree for tree in trees if isinstance(tree, Table)]
    if any(map(_is_listing, tables)):
        return "a list call answers names without specs: import what describe calls answer"
    if any({"terraform_version", "serial", "resources"} <= set(tree.keys()) for tree in tables):
        return "a state file of Terraform: import what terraform show -json prints of it"
    return None


def _is_listing(tree: Table) -> bool:
    """Whether a document is what a list call answers: arns and names, and not one spec."""
    lists = (tree.get(key) for key in _LISTED)
    return any(
        isinstance(item, Table) and "arn" in item and "spec" not in item
        for found in lists
        if isinstance(found, Series)
        for item in found.items
    )


def _is_terraform(tree: Table) -> bool:
    name = tree.place.source
    if PurePath(name).suffix in _TERRAFORM or name.endswith((".tf.json", ".tfvars.json")):
        return True
    keys = set(tree.keys())
    return "format_version" in keys and bool(keys & {"values", "planned_values", "configuration"})


def _is_template(tree: Table) -> bool:
    resources = tree.get("Resources")
    if not isinstance(resources, Table):
        return False
    return "AWSTemplateFormatVersion" in tree or any(
        isinstance(entry.value, Table) and _starts(entry.value.get("Type"), "AWS::")
        for entry in resources.entries
    )


def _is_own(tree: Table) -> bool:
    mesh = tree.get("mesh")
    if not isinstance(mesh, Table) or {"metadata", "status"} & set(mesh.keys()):
        return False
    return bool(set(tree.keys()) & _OURS - {"mesh"}) or "meshName" in mesh


def _is_request(tree: Table) -> bool:
    keys = set(tree.keys())
    described = keys & DESCRIBED.keys()
    if described and all(isinstance(tree.get(key), Table) for key in described):
        return True
    if keys & NAME_FIELDS:
        return True
    if isinstance(tree.get("spec"), Table) and not keys & {"apiVersion", "kind"}:
        return True
    return not keys and kind_of_name(tree.place.source) == "mesh"


def _is_kubernetes(tree: Table) -> bool:
    return _has_text(tree, "apiVersion") and _has_text(tree, "kind")


def _has_text(tree: Table, key: str) -> bool:
    found = tree.get(key)
    return isinstance(found, Scalar) and isinstance(found.value, str)


def _starts(node: Node | None, beginning: str) -> bool:
    return (
        isinstance(node, Scalar)
        and isinstance(node.value, str)
        and node.value.startswith(beginning)
    )


_SHAPES: tuple[tuple[Dialect, Callable[[Table], bool]], ...] = (
    ("terraform", _is_terraform),
    ("cloudformation", _is_template),
    ("kubernetes", _is_kubernetes),
    ("own", _is_own),
    ("api-json", _is_request),
)
