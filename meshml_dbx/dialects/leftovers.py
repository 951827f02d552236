"""What of the input is neither in the mesh nor named in a finding: that must be said too."""

from collections.abc import Iterable

from meshml_dbx.dialects.found import Account
from meshml_dbx.dialects.tree import Node, Scalar, Series, Table, scalars, sources_of


def report_leftovers(trees: Iterable[Node], document: Node, account: Account) -> None:
    """Add a finding for each part of the input of which nothing is accounted for."""
    known = set(account.settled)
    for one in scalars(document):
        known.update(map(id, sources_of(one)) if one.origins else (id(one),))
    for tree in trees:
        for node in _unknown(tree, known) or ():
            account.leave("import-leftover", node, f"{_shown(node)} is not in the mesh")


def _unknown(node: Node, known: set[int]) -> list[Node] | None:
    """The largest parts of a tree that hold no known scalar; None where it holds no scalar."""
    if isinstance(node, Scalar):
        return [] if id(node) in known else [node]
    found: list[Node] = []
    holds, whole = False, True
    for part in _parts(node):
        unknown = _unknown(part, known)
        if unknown is not None:
            holds = True
            whole = whole and len(unknown) == 1 and unknown[0] is part
            found += unknown
    if not holds:
        return None
    return [node] if whole else found


def _parts(node: Table | Series) -> Iterable[Node]:
    return node.items if isinstance(node, Series) else [entry.value for entry in node.entries]


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return f"the value {node.value!r}"
    count = sum(1 for _ in scalars(node))
    return f"{'this list' if isinstance(node, Series) else 'this part'}, {count} values,"
