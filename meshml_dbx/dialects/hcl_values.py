"""Terraform's expressions worked out, as far as their operands are known.

A value stays a located node on its way through variables, locals and functions, so that the mesh
still knows where each text came from. What cannot be worked out becomes a named unknown,
``${like.this}``, and the caller of ``evaluate`` learns why through ``Scope.puzzled``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from lark import Token, Tree

from meshml_dbx.dialects.hcl import Expression, Parse, heredoc_of, parts_of, trees
from meshml_dbx.dialects.hcl_functions import FUNCTIONS, NotKnownError
from meshml_dbx.dialects.hcl_known import (
    UNKNOWN,
    amount,
    as_text,
    is_known,
    is_unknown,
    number,
    operated,
    plain_number,
    truth,
    unknown,
)
from meshml_dbx.dialects.tree import (
    Entry,
    Node,
    Place,
    Plain,
    Scalar,
    Series,
    Table,
    UnreadableError,
    made,
    plain,
)

_MOST = 20_000  # characters of a text, rows of a list: far more than any mesh has


@dataclass(frozen=True, slots=True)
class Splat:
    """``[*]`` or ``.*``: the steps that are taken from every item."""

    steps: "tuple[Step, ...]"


Step = str | int | Splat  # an attribute or key, an index, or a splat


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What names mean where an expression stands.

    ``names`` are those of ``each``, ``count`` and ``for``; ``refer`` finds everything else by its
    address; ``puzzled`` is told what was not worked out.
    """

    refer: Callable[[tuple[Step, ...], Place], Node]
    puzzled: Callable[[Place, str], None]
    names: Mapping[str, Node] = field(default_factory=dict)


def evaluate(node: Node, scope: Scope) -> Node:
    """A value with every expression in it worked out, or named as unknown."""
    if isinstance(node, Expression):
        return _settled(node, scope)
    if isinstance(node, Table):
        entries = tuple(replace(it, value=evaluate(it.value, scope)) for it in node.entries)
        return replace(node, entries=entries)
    if isinstance(node, Series):
        return replace(node, items=tuple(evaluate(it, scope) for it in node.items))
    return node


def _settled(node: Expression, scope: Scope) -> Node:
    """The value of an expression, standing where the expression stands."""
    try:
        found = _value(node.parse, _Here(scope=scope, place=node.place))
    except (NotKnownError, RecursionError) as error:
        reason = str(error) if isinstance(error, NotKnownError) else "nested too deeply"
        scope.puzzled(node.place, reason)
        found = unknown(str(node.value), node.place)
    if isinstance(found, Scalar):
        return _moved(found, node.place, node)
    return found


def _moved(node: Scalar, place: Place, *origins: Scalar) -> Scalar:
    return Scalar(
        value=node.value,
        place=place,
        quoted=node.quoted,
        tag=node.tag,
        origins=(*origins, node),
    )


# --- expressions ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """The expression that is being worked out: its names, and its place."""

    scope: Scope
    place: Place
    rows: list[None] = field(default_factory=list)  # one for each row of a ``for``, up to a bound

    def naming(self, names: Mapping[str, Node]) -> "_Here":
        """The same place where a ``for`` gives further names."""
        return replace(self, scope=replace(self.scope, names={**self.scope.names, **names}))


def _value(tree: Parse, here: _Here) -> Node:
    kind = str(tree.data)
    if kind == "expr_term":
        return _value(trees(tree)[0], here)
    return _KINDS[kind](tree, here) if kind in _KINDS else _refused(kind)


def _refused(kind: str) -> Node:
    raise NotKnownError(f"{kind.replace('_', ' ')} is not worked out")


def _literal(tree: Parse, here: _Here) -> Node:
    text = str(tree.children[0])
    words: dict[str, Plain] = {"true": True, "false": False, "null": None}
    if text in words:
        return made(words[text], here.place)
    return made(number(text), here.place)


def _template(tree: Parse, here: _Here) -> Node:
    parts = list(parts_of(tree))
    if len(parts) == 1 and isinstance(parts[0], Tree):
        return _value(parts[0], here)
    found = [_text_part(part, here) for part in parts]
    text = "".join(as_text(it) for it in found)
    if len(text) > _MOST:
        raise NotKnownError(f"it has more than {_MOST:,} characters")
    tag = UNKNOWN if any(is_unknown(it) for it in found) else None
    origins = tuple(it for it in found if it.origins)
    return Scalar(value=text, place=here.place, quoted=True, tag=tag, origins=origins)


def _text_part(part: str | Parse | None, here: _Here) -> Scalar:
    if part is None:
        raise NotKnownError("a template directive, %{…}, is not worked out")
    found = made(part, here.place) if isinstance(part, str) else _value(part, here)
    if not isinstance(found, Scalar) or found.value is None:
        raise NotKnownError("a template takes a text, no list and no map")
    return found


def _heredoc(tree: Parse, here: _Here) -> Node:
    try:
        found = heredoc_of(tree, here.place)
    except UnreadableError as error:
        raise NotKnownError(str(error)) from error
    return _value(found.parse, here) if isinstance(found, Expression) else found


def _tuple(tree: Parse, here: _Here) -> Node:
    found = enumerate(trees(tree))
    items = tuple(_value(it, replace(here, place=here.place.step(index))) for index, it in found)
    return Series(place=here.place, items=items)


def _object(tree: Parse, here: _Here) -> Node:
    entries = []
    for element in trees(tree):
        key_tree, value_tree = trees(element)
        inner = trees(key_tree)[0]
        key = _object_key(inner, here)
        place = here.place.step(key)
        entries.append(
            Entry(key=key, place=place, value=_value(value_tree, replace(here, place=place)))
        )
    return Table(place=here.place, entries=tuple(entries))


def _object_key(tree: Parse, here: _Here) -> str:
    bare = tree
    if tree.data == "expr_term" and not isinstance(tree.children[0], Token):
        bare = trees(tree)[0]
    if bare.data in {"identifier", "keyword", "literal_value"}:
        return str(bare.children[0])
    return _key_of(_value(tree, here))


def _key_of(node: Node) -> str:
    if not isinstance(node, Scalar) or is_unknown(node):
        raise NotKnownError("the key of a map is not known")
    return as_text(node)


# --- references -------------------------------------------------------------------------------


def _reference(tree: Parse, here: _Here) -> Node:
    """What an address such as ``aws_appmesh_mesh.this.name`` or ``each.value.port`` leads to."""
    root, steps = _address(tree, here)
    if not isinstance(root, str):
        return follow(root, steps, here.place)
    for length in (1, 0):
        first = steps[:length]
        name = ".".join(str(it) for it in (root, *first))
        if name in here.scope.names:
            return follow(here.scope.names[name], steps[length:], here.place)
    return here.scope.refer((root, *steps), here.place)


def _address(tree: Parse, here: _Here) -> tuple[str | Node, tuple[Step, ...]]:
    steps: list[Step] = []
    while tree.data in _STEPS or (tree.data == "expr_term" and _is_plain(tree)):
        if tree.data == "expr_term":
            (tree,) = trees(tree)
            continue
        tree, step = trees(tree)
        steps[:0] = _steps(step, here)
    if tree.data == "identifier":
        return str(tree.children[0]), tuple(steps)
    return _value(tree, here), tuple(steps)


def _is_plain(tree: Parse) -> bool:
    return not isinstance(tree.children[0], Token)


def _steps(tree: Parse, here: _Here) -> list[Step]:
    match str(tree.data):
        case "get_attr":
            return [str(trees(tree)[0].children[0])]
        case "short_index":
            return [int(str(tree.children[-1]))]
        case "braces_index":
            return [_index(_value(trees(tree)[0], here))]
        case _:
            return _splat_steps(tree, here)


def _splat_steps(tree: Parse, here: _Here) -> list[Step]:
    """``[*]`` asks everything that follows of each item, ``.*`` only attributes."""
    found = trees(tree)
    inner = [it for it in found if it.data == "get_attr"] if tree.data == "attr_splat" else found
    each = [step for it in inner for step in _steps(it, here)]
    after = [step for it in found[len(inner) :] for step in _steps(it, here)]
    return [Splat(tuple(each)), *after]


def _index(node: Node) -> Step:
    if is_unknown(node) or not isinstance(node, Scalar):
        raise NotKnownError("the index is not known")
    whole = isinstance(node.value, int) and not isinstance(node.value, bool)
    return int(as_text(node)) if whole else as_text(node)


def follow(node: Node, steps: tuple[Step, ...], place: Place) -> Node:
    """The part of a value that steps lead to."""
    for index, step in enumerate(steps):
        if is_unknown(node):
            inner = str(node.value if isinstance(node, Scalar) else "")[2:-1]
            return unknown(".".join([inner, *map(shown, steps[index:])]), place)
        if isinstance(step, Splat):
            return follow(_splat(node, step.steps, place), steps[index + 1 :], place)
        found = _child(node, step)
        if found is None:
            raise NotKnownError(f'there is no "{step}" in what it refers to')
        node = found
    return node


def shown(step: Step) -> str:
    """A step in an unknown's name."""
    return ".".join(["all", *map(shown, step.steps)]) if isinstance(step, Splat) else str(step)


def _splat(node: Node, rest: tuple[Step, ...], place: Place) -> Node:
    if isinstance(node, Scalar) and node.value is None:
        return Series(place=place, items=())
    items = node.items if isinstance(node, Series) else (node,)
    return Series(place=place, items=tuple(follow(it, rest, place) for it in items))


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(node, Table):
        return node.get(str(step))
    if isinstance(node, Series) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


# --- operators --------------------------------------------------------------------------------


def _unary(tree: Parse, here: _Here) -> Node:
    operand = _value(trees(tree)[0], here)
    if str(tree.children[0]) == "!":
        return made(not truth(operand), here.place, *_origins(operand))
    return made(plain_number(-amount(operand)), here.place, *_origins(operand))


def _binary(tree: Parse, here: _Here) -> Node:
    left_tree, term = trees(tree)
    operator_tree, right_tree = trees(term)
    operator = str(operator_tree.children[0]).strip().split("\n")[-1].strip()
    left = _value(left_tree, here)
    if operator in {"&&", "||"}:
        return _logic(operator, left, right_tree, here)
    right = _value(right_tree, here)
    return made(operated(operator, left, right), here.place, *_origins(left), *_origins(right))


def _logic(operator: str, left: Node, right_tree: Parse, here: _Here) -> Node:
    """One side may be unknown where the other settles the matter."""
    settles = operator == "||"
    if is_unknown(left):
        right = _value(right_tree, here)
        if is_known(right) and truth(right) == settles:
            return made(settles, here.place, *_origins(right))
        raise NotKnownError(f"one side of {operator} is not known")
    if truth(left) == settles:
        return made(settles, here.place, *_origins(left))
    right = _value(right_tree, here)
    return made(truth(right), here.place, *_origins(left), *_origins(right))


def _conditional(tree: Parse, here: _Here) -> Node:
    condition, when_true, when_false = trees(tree)
    decided = _value(condition, here)
    if not is_unknown(decided):
        found = _value(when_true if truth(decided) else when_false, here)
        if isinstance(found, Scalar):
            return _moved(found, here.place, *_origins(decided))
        return found
    one, other = _value(when_true, here), _value(when_false, here)
    if is_known(one) and is_known(other) and plain(one) == plain(other):
        return one
    raise NotKnownError("its condition is not known")


def _origins(node: Node) -> tuple[Scalar, ...]:
    return (node,) if isinstance(node, Scalar) and node.origins else ()


# --- functions, for ---------------------------------------------------------------------------


def _call(tree: Parse, here: _Here) -> Node:
    found = trees(tree)
    names = [str(it.children[0]) for it in found if it.data == "identifier"]
    name = "::".join(names)
    arguments = [it for it in found if it.data == "arguments"]
    if name in {"try", "can"} and arguments:
        return _tried(name, trees(arguments[0]), here)
    if name not in FUNCTIONS:
        raise NotKnownError(f"the function {name} is not worked out")
    given = [_value(it, here) for argument in arguments for it in trees(argument)]
    if arguments and any(str(it) == "..." for it in arguments[0].children):
        *given, last = given
        given += last.items if isinstance(last, Series) else [last]
    function = FUNCTIONS[name]
    if not function.takes_unknown and not all(is_known(it) for it in given):
        raise NotKnownError(f"an argument of the function {name} is not known")
    try:
        return _kept(function.work(given, here.place), given, here.place)
    except (IndexError, TypeError, ValueError, KeyError) as error:
        raise NotKnownError(f"the function {name} does not take these arguments") from error


def _kept(found: Node, given: list[Node], place: Place) -> Node:
    """A text that a function made, with what it was made from, and unknown if that is."""
    if not isinstance(found, Scalar) or found.origins or found in given:
        return found
    tag = None if all(is_known(it) for it in given) or "${" not in str(found.value) else UNKNOWN
    origins = tuple(origin for it in given for origin in _origins(it))
    return Scalar(value=found.value, place=place, quoted=found.quoted, tag=tag, origins=origins)


def _tried(name: str, arguments: list[Parse], here: _Here) -> Node:
    for argument in arguments:
        try:
            found = _value(argument, here)
        except NotKnownError:
            continue
        return found if name == "try" else made(value=True, place=here.place)
    if name == "can":
        return made(value=False, place=here.place)
    raise NotKnownError("the function try finds nothing that is known")


def _for(tree: Parse, here: _Here) -> Node:
    """``[for …]`` and ``{for …}`` over a known list or map."""
    intro, *results = trees(tree)
    *name_trees, over = trees(intro)
    names = [str(it.children[0]) for it in name_trees]
    wanted = [it for it in results if it.data != "for_cond"]
    conditions = [trees(it)[0] for it in results if it.data == "for_cond"]
    if any(str(it) == "..." for it in tree.children):
        raise NotKnownError("grouping with ... is not worked out")
    rows = []
    for key, item in pairs(_value(over, here)):
        given = dict(zip(names, (key, item) if len(names) > 1 else (item,), strict=True))
        inner = here.naming(given)
        here.rows.append(None)
        if len(here.rows) > _MOST:
            raise NotKnownError(f"it has more than {_MOST:,} rows")
        if all(truth(_value(it, inner)) for it in conditions):
            rows.append([_value(it, inner) for it in wanted])
    if tree.data == "for_tuple_expr":
        return Series(place=here.place, items=tuple(row[0] for row in rows))
    entries = {_key_of(row[0]): row[1] for row in rows}
    return Table(
        place=here.place,
        entries=tuple(Entry(key=it, place=here.place, value=entries[it]) for it in sorted(entries)),
    )


def pairs(node: Node) -> list[tuple[Scalar, Node]]:
    """The keys and values of a map, or the indexes and items of a list."""
    if isinstance(node, Table):
        return [(made(it.key, it.place), it.value) for it in node.entries]
    if isinstance(node, Series):
        return [(made(index, it.place), it) for index, it in enumerate(node.items)]
    if node.value is None:
        return []
    raise NotKnownError("what it repeats over is not known")


_STEPS = {"get_attr_expr_term", "index_expr_term", "attr_splat_expr_term", "full_splat_expr_term"}
_KINDS: dict[str, Callable[[Parse, _Here], Node]] = {
    **dict.fromkeys(("int_lit", "float_lit", "literal_value"), _literal),
    **dict.fromkeys(("string", "template"), _template),
    **dict.fromkeys(("identifier", *_STEPS), _reference),
    **dict.fromkeys(("heredoc_template", "heredoc_template_trim"), _heredoc),
    "tuple": _tuple,
    "object": _object,
    "unary_op": _unary,
    "binary_op": _binary,
    "conditional": _conditional,
    "function_call": _call,
    **dict.fromkeys(("for_tuple_expr", "for_object_expr"), _for),
}
