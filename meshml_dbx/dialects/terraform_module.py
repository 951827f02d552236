"""One Terraform module: its blocks by address, its names worked out, its resources repeated.

The trees of a folder's files go in, with the values of its variables; the evaluated bodies of its
resources come out, in the shape that ``terraform show -json`` gives them: a block is a list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from meshml_dbx.dialects.found import Account, Parameters
from meshml_dbx.dialects.hcl import BLOCK, Expression, read_expression
from meshml_dbx.dialects.hcl_functions import SET, NotKnownError
from meshml_dbx.dialects.hcl_known import as_text, is_unknown, unknown
from meshml_dbx.dialects.hcl_values import Scope, Splat, Step, evaluate, follow, pairs, shown
from meshml_dbx.dialects.tree import (
    Entry,
    Node,
    Place,
    Scalar,
    Series,
    Table,
    UnreadableError,
    made,
    scalars,
)

_MOST_COPIES = 10_000
_MOST_SCALARS = 20_000
_SHAPING = {"count", "for_each", "depends_on", "provider", "providers", "source", "version"}
_KEEPING = {"lifecycle", "provisioner", "connection", "timeouts"}
Names = Mapping[str, Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A labelled block: ``kind`` is resource, data, module …; ``name`` its address without it."""

    kind: str
    name: tuple[str, ...]
    body: Table

    @property
    def address(self) -> str:
        """The address as Terraform writes it."""
        return ".".join(self.name if self.kind == "resource" else (self.kind, *self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One instance of a resource or module: its index or key, and what each and count mean."""

    key: str | int | None
    names: Names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Values:
    """Where the values of variables come from: the caller's arguments, or the files of values."""

    arguments: Mapping[str, Node]
    scope: Scope | None = None


_LABELS = {"resource": 2, "data": 2, "variable": 1, "module": 1, "output": 1, "provider": 1}


def blocks_of(trees: Sequence[Table]) -> Iterator[Block]:
    """Every block of a module's files."""
    for tree in trees:
        for entry in tree.entries:
            for value in _each(entry.value):
                yield from _labelled(entry.key, (), value, _LABELS.get(entry.key, 0))


def _labelled(kind: str, name: tuple[str, ...], node: Node, labels: int) -> Iterator[Block]:
    if not isinstance(node, Table):
        yield Block(kind=kind, name=name, body=Table(place=node.place, entries=_loose(node)))
    elif not labels:
        yield Block(kind=kind, name=name, body=node)
    else:
        for entry in node.entries:
            for value in _each(entry.value):
                yield from _labelled(kind, (*name, entry.key), value, labels - 1)


def _each(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Series) else (node,)


def _loose(node: Node) -> tuple[Entry, ...]:
    return (Entry(key="value", place=node.place, value=node),)


@dataclass(slots=True, kw_only=True, eq=False)
class Module:
    """A module while it is read; ``values`` give its variables, ``children`` its modules."""

    blocks: tuple[Block, ...]
    account: Account
    parameters: Parameters
    values: Values
    children: dict[tuple[str, str | int | None], "Module"] = field(default_factory=dict)
    dynamics: dict[Place, bool] = field(default_factory=dict)
    """Whether the dynamic block at a place has made anything."""
    _known: dict[str, Node] = field(default_factory=dict)
    _open: set[tuple[str, ...]] = field(default_factory=set)
    _copies: dict[int, tuple[Copy, ...]] = field(default_factory=dict)
    _puzzles: set[Place] = field(default_factory=set)
    _index: dict[tuple[str, tuple[str, ...]], Block] = field(default_factory=dict)
    _locals: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for block in self.blocks:
            self._index.setdefault((block.kind, block.name), block)
            if block.kind == "locals":
                self._locals.update({it.key: it.value for it in block.body.entries})

    # --- names --------------------------------------------------------------------------------

    def scope(self, names: Names | None = None) -> Scope:
        """What names mean in this module, with those of one copy."""
        return Scope(refer=self.refer, puzzled=self.puzzled, names=names or {})

    def puzzled(self, place: Place, reason: str) -> None:
        """Report once what was not worked out at a place."""
        if place not in self._puzzles:
            self._puzzles.add(place)
            self.account.report("terraform-expression", place, f"not worked out: {reason}")

    def refer(self, address: tuple[Step, ...], place: Place) -> Node:
        """What an address means: a variable, a local, an attribute of a block, else an unknown."""
        root, *rest = address
        steps = tuple(rest)
        if root == "var" and steps:
            return follow(self._remembered(("var", str(steps[0])), place), steps[1:], place)
        if root == "local" and steps:
            return follow(self._remembered(("local", str(steps[0])), place), steps[1:], place)
        if root == "module" and steps:
            return self._output(str(steps[0]), steps[1:], place)
        if root == "data":
            return self._attribute("data", steps, place)
        return self._attribute("resource", address, place)

    def _remembered(self, name: tuple[str, str], place: Place) -> Node:
        key = ".".join(name)
        if key not in self._known:
            if name in self._open:
                what = f"{key} is made from itself"
                self.account.report("terraform-cycle", place, what)
                return unknown(key, place)
            self._open.add(name)
            found = self._variable(name[1], place) if name[0] == "var" else self._local(name[1])
            self._open.discard(name)
            self._known[key] = self._bounded(found, key)
        return self._known[key]

    def _bounded(self, node: Node, key: str) -> Node:
        size = sum(1 for _ in islice(scalars(node), _MOST_SCALARS + 1))
        if size <= _MOST_SCALARS:
            return node
        self.puzzled(node.place, f"{key} has more than {_MOST_SCALARS:,} values")
        return unknown(key, node.place)

    def _local(self, name: str) -> Node:
        node = self._locals.get(name)
        if node is None:
            raise NotKnownError(f"there is no local.{name}")
        self.account.use(node)
        return evaluate(node, self.scope())

    def _variable(self, name: str, place: Place) -> Node:
        block = self._index.get(("variable", (name,)))
        if block is not None:
            self.account.use(block.body)
        given = self.values.arguments.get(name)
        self.account.use(given)
        if given is not None and self.values.scope is not None:
            return _as_declared(evaluate(given, self.values.scope), block)
        text = self.parameters.get(name)
        text = self.parameters.get(f"var.{name}") if text is None else text
        if text is not None:
            return _as_declared(self._param(text, block, place), block)
        if given is None and block is not None:
            given = block.body.get("default")
        if given is None:
            return unknown(f"var.{name}", place)
        return _as_declared(evaluate(given, self.scope()), block)

    def _param(self, text: str, block: Block | None, place: Place) -> Node:
        """A value given by hand; lists and maps are written as HCL writes them."""
        here = block.body.place if block else place
        if text.lstrip().startswith(("[", "{")):
            try:
                parse = read_expression(text)
            except UnreadableError:
                return made(text, here)
            return evaluate(Expression(value=text, place=here, parse=parse), self.scope())
        return made(text, here)

    # --- blocks -------------------------------------------------------------------------------

    def _attribute(self, kind: str, address: tuple[Step, ...], place: Place) -> Node:
        name, steps = tuple(str(it) for it in address[:2]), address[2:]
        block = self._index.get((kind, name))
        whole = address if kind == "resource" else (kind, *address)
        if block is None:
            return self._unknown(whole, place)
        copies = self.copies(block)
        if "count" not in block.body and "for_each" not in block.body:
            return self._value(block, copies[0], steps, place)
        first, rest = (steps[0], steps[1:]) if steps else (Splat(()), ())
        if isinstance(first, Splat):
            found = tuple(self._value(block, copy, first.steps, place) for copy in copies)
            return follow(Series(place=place, items=found), rest, place)
        for copy in copies:
            if copy.key in {first, None}:
                return self._value(block, copy, rest, place)
        return self._unknown(whole, place)

    def _value(self, block: Block, copy: Copy, steps: tuple[Step, ...], place: Place) -> Node:
        """What is written at an attribute: Terraform gives it back as it is."""
        if not steps:
            return self.body(block.body, copy.names, top=True)
        first = str(steps[0])
        if first == "id" and block.name[0] == "aws_appmesh_mesh":
            first = "name"
        chosen = tuple(it for it in block.body.entries if it.key == first)
        key = (block.address, str(copy.key), first)
        if not chosen or first in _SHAPING:
            index = () if copy.key is None else (copy.key,)
            kind = () if block.kind == "resource" else (block.kind,)
            return self._unknown((*kind, *block.name, *index, *steps), place)
        if key in self._open:
            self.account.report("terraform-cycle", place, f"{'.'.join(key)} is made from itself")
            return unknown(".".join(key), place)
        self._open.add(key)
        body = self.body(replace(block.body, entries=chosen), copy.names, top=False)
        self._open.discard(key)
        return follow(body.entries[0].value, steps[1:], place)

    def _unknown(self, address: tuple[Step, ...], place: Place) -> Node:
        name = ".".join(map(shown, address))
        text = self.parameters.get(name)
        return unknown(name, place) if text is None else made(text, place)

    def _output(self, name: str, steps: tuple[Step, ...], place: Place) -> Node:
        block = self._index.get(("module", (name,)))
        copies = self.copies(block) if block else ()
        keys = [it.key for it in copies if (name, it.key) in self.children]
        index = steps[0] if steps and steps[0] in keys else None
        rest = steps if index is None else steps[1:]
        child = self.children.get((name, index)) or (
            self.children[name, keys[0]] if len(keys) == 1 else None
        )
        output = child._index.get(("output", (str(rest[0]),))) if child and rest else None
        if child is None or output is None:
            return self._unknown(("module", name, *steps), place)
        value = output.body.get("value") or made(None, place)
        child.account.use(output.body)
        return follow(evaluate(value, child.scope()), rest[1:], place)

    # --- bodies -------------------------------------------------------------------------------

    def copies(self, block: Block) -> tuple[Copy, ...]:
        """The instances of a block: one, or those of its count or for_each."""
        if id(block) not in self._copies:
            self._copies[id(block)] = self._repeated(block)
        return self._copies[id(block)]

    def _repeated(self, block: Block) -> tuple[Copy, ...]:
        over = block.body.get("count") or block.body.get("for_each")
        if over is None:
            return (Copy(key=None, names={}),)
        self.account.use(over)
        try:
            if block.body.get("count"):
                return self._counted(evaluate(over, self.scope()))
            return self._mapped(evaluate(over, self.scope()))
        except NotKnownError as error:
            what = f"{block.address} is read once: {error}"
            self.account.report("terraform-repeat", over.place, what)
        place = block.body.place
        names = ("count.index", "each.key", "each.value")
        return (Copy(key=None, names={it: unknown(it, place) for it in names}),)

    def _counted(self, value: Node) -> tuple[Copy, ...]:
        if is_unknown(value) or not isinstance(value, Scalar) or not as_text(value).isdecimal():
            raise NotKnownError("its count is not known")
        number = int(as_text(value)[:18])
        if number > _MOST_COPIES:
            raise NotKnownError(f"its count is more than {_MOST_COPIES:,}")
        return tuple(
            Copy(key=index, names={"count.index": made(index, value.place)})
            for index in range(number)
        )

    def _mapped(self, value: Node) -> tuple[Copy, ...]:
        if is_unknown(value):
            raise NotKnownError("its for_each is not known")
        return tuple(
            Copy(key=as_text(key), names={"each.key": key, "each.value": item})
            for key, item in _set_or_map(value)
        )

    def body(self, table: Table, names: Names, *, top: bool) -> Table:
        """A block with its values worked out; its inner blocks are lists, as ``show`` has them."""
        scope = self.scope(names)
        groups: dict[str, list[Node]] = {}
        entries: dict[str, Entry] = {}
        for entry in table.entries:
            if top and entry.key in _SHAPING:
                self.account.use(entry.value)
            elif top and entry.key in _KEEPING:
                self.account.leave("terraform-left", entry.value, f"{entry.key} is Terraform's own")
            elif entry.key == "dynamic":
                for key, item in self._dynamic(entry.value, names):
                    groups.setdefault(key, []).append(item)
                    entries.setdefault(key, replace(entry, key=key, place=item.place))
            elif isinstance(entry.value, Table) and entry.value.tag == BLOCK:
                inner = self.body(entry.value, names, top=False)
                groups.setdefault(entry.key, []).append(inner)
                entries.setdefault(entry.key, entry)
            else:
                entries[entry.key] = replace(entry, value=self._written(entry.value, scope))
        filled = (
            replace(it, value=Series(place=it.place, items=tuple(groups[key])))
            if key in groups
            else it
            for key, it in entries.items()
        )
        return Table(place=table.place, entries=tuple(filled))

    def _written(self, node: Node, scope: Scope) -> Node:
        """An attribute, or a block of Terraform's JSON, which looks like one."""
        if isinstance(node, Table):
            return self.body(node, scope.names, top=False)
        if isinstance(node, Series):
            return replace(node, items=tuple(self._written(it, scope) for it in node.items))
        if isinstance(node, Expression):
            self.account.use(node)
        return evaluate(node, scope)

    def _dynamic(self, node: Node, names: Names) -> Iterator[tuple[str, Node]]:
        """The blocks that a dynamic block stands for."""
        for block in _labelled("dynamic", (), node, 1):
            (name,) = block.name or ("",)
            over, content = block.body.get("for_each"), block.body.get("content")
            iterator = block.body.get("iterator")
            word = str(iterator.value).split(".")[0] if isinstance(iterator, Scalar) else name
            self.account.use(block.body)
            try:
                value = evaluate(over, self.scope(names)) if over else made(None, node.place)
                found = pairs(value)
            except NotKnownError as error:
                what = f"the dynamic block {name} is left out: {error}"
                self.account.leave("terraform-dynamic", block.body, what)
                continue
            at = block.body.place
            self.dynamics[at] = self.dynamics.get(at, False) or bool(found)
            for key, item in found:
                inner = {**names, f"{word}.key": _key(key, item, value), f"{word}.value": item}
                for it in _each(content) if content else ():
                    if isinstance(it, Table):
                        yield name, self.body(it, inner, top=False)


def _set_or_map(node: Node) -> list[tuple[Scalar, Node]]:
    """What for_each repeats over: the items of a set are their own keys."""
    if isinstance(node, Series):
        return [(it, it) for it in node.items if isinstance(it, Scalar)]
    return pairs(node)


def _key(key: Node, item: Node, over: Node) -> Node:
    """A set's items are their own keys in a dynamic block; a list's have their index."""
    return item if isinstance(over, Series) and over.tag == SET else key


def _as_declared(value: Node, variable: Block | None) -> Node:
    """A variable's value, which is a set where its type says so."""
    declared = variable.body.get("type") if variable else None
    is_set = isinstance(declared, Scalar) and str(declared.value).startswith("set(")
    return replace(value, tag=SET) if is_set and isinstance(value, Series) else value
