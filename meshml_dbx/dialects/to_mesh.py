"""An assembled document becomes the nodes that ``load`` walks, each knowing its original place."""

from operator import is_

import yaml

from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Series, Table, typed
from meshml_dbx.mesh.load import LoadedMesh, load_tree

_CORE = "tag:yaml.org,2002:"
_TRUTHS = {
    form
    for word in ("yes", "no", "true", "false", "on", "off")
    for form in (word, word.capitalize(), word.upper())
}


def load_document(document: Table, *, source: str) -> LoadedMesh:
    """The mesh of a document in ``mesh.yml``'s shape; findings name what it was made from."""
    places: dict[int, Place] = {}
    root = _node(document, places)
    return load_tree(root, source=source, where=lambda node: places.get(id(node)))


def loosen(node: Node) -> Node:
    """The same tree with the quotes of numbers and truths gone, for forms that do not mean them."""
    if isinstance(node, Scalar):
        return _loosen_scalar(node)
    if isinstance(node, Series):
        items = tuple([loosen(item) for item in node.items])
        same = all(map(is_, items, node.items))
        return node if same else Series(place=node.place, items=items, tag=node.tag)
    entries = tuple([_loosen_entry(entry) for entry in node.entries])
    same = all(map(is_, entries, node.entries))
    return node if same else Table(place=node.place, entries=entries, tag=node.tag)


def _loosen_entry(entry: Entry) -> Entry:
    value = loosen(entry.value)
    if value is entry.value:
        return entry
    return Entry(key=entry.key, place=entry.place, value=value)


def _loosen_scalar(scalar: Scalar) -> Scalar:
    if not (scalar.quoted and isinstance(scalar.value, str)):
        return scalar
    value = typed(scalar.value.lower() if scalar.value in _TRUTHS else scalar.value)
    if not isinstance(value, int):
        return scalar
    return Scalar(value=value, place=scalar.place, tag=scalar.tag, origins=(scalar,))


def _node(node: Node, places: dict[int, Place]) -> yaml.Node:
    made: yaml.Node
    if isinstance(node, Scalar):
        made = _scalar(node)
    elif isinstance(node, Series):
        items = [_node(item, places) for item in node.items]
        made = yaml.SequenceNode(node.tag or f"{_CORE}seq", items)
    else:
        pairs = [(_key(entry, places), _node(entry.value, places)) for entry in node.entries]
        made = yaml.MappingNode(node.tag or f"{_CORE}map", pairs)
    places[id(made)] = node.place
    return made


def _key(entry: Entry, places: dict[int, Place]) -> yaml.Node:
    key = yaml.ScalarNode(f"{_CORE}str", entry.key)
    places[id(key)] = entry.place
    return key


def _scalar(scalar: Scalar) -> yaml.Node:
    value, style = scalar.value, '"' if scalar.quoted else None
    match value:
        case None:
            tag, text = "null", "null"
        case bool():
            tag, text = "bool", str(value).lower()
        case int():
            tag, text = "int", str(value)
        case _:
            text = str(value)
            tag = "bool" if text in _TRUTHS and not scalar.quoted else "str"
    return yaml.ScalarNode(scalar.tag or f"{_CORE}{tag}", text, style=style)
