"""HCL text becomes a located tree, in the shape that Terraform's own JSON syntax has.

The maintained parser ``python-hcl2`` does the reading; its parse tree, not its dicts, is walked
here, since only there does every value keep its line. A literal becomes a Scalar, a list a Series,
an object or a block a Table; whatever must be worked out becomes an Expression, with its parse.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO

from hcl2.parser import parser
from hcl2.utils import process_escape_sequences
from lark import Lark, Token, Tree
from lark.exceptions import LarkError, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from meshml_dbx.dialects.tree import (
    Entry,
    Node,
    Place,
    Plain,
    Scalar,
    Series,
    Table,
    UnreadableError,
    node_class,
)

BLOCK = "!block"
Parse = Tree[Token]

_LARGEST = 5_000_000  # characters; the parser takes about 0.1 ms for each line of a file
_LITERALS: dict[str, Plain] = {"true": True, "false": False, "null": None}
_NUMBERS = {"int_lit", "float_lit"}
_DIRECT = {"resource"}  # whose addresses are written without the block's own name
_MARK = re.compile(r"\$\$\{|%%\{|\$\{|%\{")
_BRACE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]')
_BLOCK_END = re.compile(r"^\}[ \t]*\r?\n", re.MULTILINE)
_PIECE = 50_000  # characters
_OPENED = re.compile(r"^[^#]*?<<-?([A-Za-z][\w.-]*)\s*$", re.ASCII)
_HEREDOC = re.compile(r"<<(-?)[^\r\n]*\r?\n(.*?)[^\n]*\r?\n\Z", re.DOTALL)


@node_class
class Expression(Scalar):
    """A value that must be worked out: its text, and its parse.

    >>> read_hcl("port = var.port", "a.tf").get("port").value
    'var.port'
    """

    parse: Parse


def read_hcl(text: str, source: str) -> Table:
    """The blocks and attributes of a .tf or .tfvars file; a block's labels are nested tables.

    Raises:
        UnreadableError: with the line, if it is not HCL.
    """
    if len(text) > _LARGEST:
        raise UnreadableError(1, f"more than {_LARGEST:,} characters; split the file")
    _check_heredocs(text)
    try:
        return _in_pieces(text, source) or _whole(text, source)
    except RecursionError:
        raise UnreadableError(1, "nested too deeply") from None


def read_expression(text: str) -> Parse:
    """The parse of one expression.

    Raises:
        UnreadableError: if it is none.
    """
    attribute = next(_trees(_parsed(f"value = {text}")), None)
    found = attribute and attribute.data == "attribute" and _trees_of(attribute)
    if not found:
        raise UnreadableError(1, f"not an expression: {text}")
    return found[-1]


def templated(node: Node) -> Node:
    """The tree of a Terraform JSON file with its templates as expressions: every text is one.

    Raises:
        UnreadableError: with the line, if a template is no HCL.
    """
    if isinstance(node, Table):
        entries = tuple(
            Entry(key=it.key, place=it.place, value=templated(it.value)) for it in node.entries
        )
        return Table(place=node.place, entries=entries)
    if isinstance(node, Series):
        return Series(place=node.place, items=tuple(templated(it) for it in node.items))
    if isinstance(node.value, str) and _MARK.search(node.value):
        return _template(node.value, node.place, node)
    return node


def parts_of(tree: Parse) -> Iterator[str | Parse | None]:
    """The texts and expressions of a template; None is what is not worked out, a directive."""
    for part in tree.children:
        if isinstance(part, Token):
            if part.type != "DBLQUOTE":
                yield str(part)
        elif part.data == "string_part":
            yield _part(part)
        else:
            yield part


def heredoc_of(tree: Parse, place: Place) -> Scalar:
    """The text of a heredoc inside an expression.

    Raises:
        UnreadableError: if what it puts in is no expression.
    """
    return _template(_heredoc(str(tree.children[0])), place)


def trees(tree: Parse) -> list[Parse]:
    """The parts of a parse that matter: without tokens, line ends and comments."""
    return _trees_of(tree)


# --- the parser -------------------------------------------------------------------------------


class _Lean(Lark):
    """The library's parser without the positions that it computes for every rule.

    Tokens have theirs anyway, and the parser takes half the time.
    """

    @classmethod
    def of(cls, full: Lark) -> "_Lean":
        """The same grammar, already compiled."""
        saved = BytesIO()
        full.save(saved, {"postlex", "propagate_positions"})
        saved.seek(0)
        lean = cls.__new__(cls)
        lean._load(saved, propagate_positions=False, postlex=full.options.postlex)
        return lean


@cache
def _parser() -> Lark:
    return _Lean.of(parser())


def _whole(text: str, source: str) -> Table:
    return _Reader(text=text).body(_parsed(text), Place(source=source, line=1))


def _in_pieces(text: str, source: str) -> Table | None:
    """A long file block by block, so that no parse of all of it is ever held.

    A line that is a closing brace alone ends a block in nearly every file. Where it does not, a
    piece is no HCL, and the file is read as a whole.
    """
    entries: list[Entry] = []
    start, line = 0, 1
    try:
        for end in [*_ends(text), len(text)]:
            piece = text[start:end]
            reader = _Reader(text=piece, skipped=line - 1)
            place = Place(source=source, line=1)
            entries += reader.body(_parsed(piece), place).entries
            start, line = end, line + piece.count("\n")
    except UnreadableError:
        return None
    return Table(place=Place(source=source, line=1), entries=tuple(entries), tag=BLOCK)


def _ends(text: str) -> Iterator[int]:
    last = 0
    for found in _BLOCK_END.finditer(text):
        if found.end() - last > _PIECE:
            last = found.end()
            yield last


def _parsed(text: str) -> Parse:
    try:
        return _trees_of(_parser().parse(text.removeprefix("\ufeff") + "\n"))[0]
    except UnexpectedInput as error:
        last = text.count("\n") + (not text.endswith("\n"))
        line = error.line if isinstance(error.line, int) and error.line > 0 else last
        raise UnreadableError(max(min(line, last), 1), f"not HCL: {_problem(error)}") from error
    except LarkError as error:
        raise UnreadableError(1, "not HCL") from error


def _check_heredocs(text: str) -> None:
    """Refuse a heredoc without an end: the parser would look for it once per line."""
    lines = text.split("\n")
    last = {line.strip(): number for number, line in enumerate(lines, start=1)}
    for number, line in enumerate(lines, start=1):
        found = _OPENED.search(line)
        if found and last.get(found[1], 0) <= number:
            raise UnreadableError(number, f"the heredoc <<{found[1]} has no end")


def _problem(error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedCharacters):
        return f'unexpected "{error.char}"'
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        shown = str(error.token).strip().split("\n")[0][:40]
        return f'unexpected "{shown}"' if shown else "unexpected end of line"
    return "it ends too early"


def _trees(tree: Parse) -> Iterator[Parse]:
    for child in tree.children:
        if isinstance(child, Tree) and child.data != "new_line_or_comment":
            yield child


def _trees_of(tree: Parse) -> list[Parse]:
    return list(_trees(tree))


# --- texts ------------------------------------------------------------------------------------


def _part(part: Parse) -> str | Parse | None:
    (inner,) = part.children
    if isinstance(inner, Tree):
        return _trees_of(inner)[0] if inner.data == "interpolation" else None
    if inner.type == "STRING_CHARS":
        return process_escape_sequences(str(inner))
    return process_escape_sequences(str(inner)[1:])


def _heredoc(token: str) -> str:
    """The text of a heredoc, with its last line end, which Terraform keeps."""
    found = _HEREDOC.fullmatch(token)
    if found is None:
        return token
    text = found[2].replace("\r\n", "\n")
    if not found[1]:
        return text
    margins = [len(line) - len(line.lstrip(" ")) for line in text.split("\n") if line.strip()]
    margin = min(margins, default=0)
    return "\n".join(line[margin:] for line in text.split("\n"))


def _template(text: str, place: Place, *origins: Scalar) -> Scalar:
    """A text that may hold ``${…}``, as a heredoc and Terraform's JSON write it."""
    parts: list[Token | Parse] = []
    start = 0
    while mark := _MARK.search(text, start):
        parts.append(Token("TEXT", text[start : mark.start()]))
        start = mark.end()
        if len(mark[0]) > len("${"):
            parts.append(Token("TEXT", mark[0][1:]))
            continue
        end = _closing(text, start)
        if end is None:
            raise UnreadableError(place.line, f"{mark[0]} is not closed")
        parts.append(_interpolated(mark[0], text[start:end], place))
        start = end + 1
    parts.append(Token("TEXT", text[start:]))
    written = [it for it in parts if isinstance(it, Tree) or it]
    if all(isinstance(it, Token) for it in written):
        value = "".join(str(it) for it in written)
        return Scalar(value=value, place=place, quoted=True, origins=origins)
    parse = Tree[Token]("template", list(written))
    return Expression(value=text, place=place, quoted=True, parse=parse, origins=origins)


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for found in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.start()
    return None


def _interpolated(mark: str, text: str, place: Place) -> Parse:
    if mark == "%{":
        return Tree("directive", [])
    try:
        return read_expression(text)
    except UnreadableError as error:
        raise UnreadableError(place.line, str(error)) from error


# --- the tree ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """The walk over the parse of one text."""

    text: str
    skipped: int = 0  # lines before this text

    def body(self, tree: Parse, place: Place) -> Table:
        """The attributes and blocks of a file or of a block."""
        found = _trees_of(tree)
        names = [_label(_trees_of(it)[0]) for it in found]
        often = Counter(names)
        seen: Counter[str] = Counter()
        entries = []
        for item, name in zip(found, names, strict=True):
            index = seen[name] if often[name] > 1 and place.path else None
            seen[name] += 1
            entries.append(self._item(item, name, index, place))
        return Table(place=place, entries=tuple(entries), tag=BLOCK)

    def _item(self, item: Parse, name: str, index: int | None, place: Place) -> Entry:
        here = place.step(name, self._line(item))
        if item.data == "attribute":
            value = _trees_of(item)[-1]
            return Entry(key=name, place=here, value=self.value(value, here))
        *head, body = _trees_of(item)
        steps = [_label(it) for it in head[1:]]
        top = not place.path
        line = here.line
        start = place.step("", line) if top and name in _DIRECT and steps else here
        if index is not None:
            start = start.step(index, line)
        return Entry(key=name, place=here, value=self._labelled(steps, body, start, line))

    def _labelled(self, labels: list[str], body: Parse, place: Place, line: int) -> Table:
        if not labels:
            return self.body(body, place)
        first, *rest = labels
        inner = place.step(first, line)
        entry = Entry(key=first, place=inner, value=self._labelled(rest, body, inner, line))
        return Table(place=place, entries=(entry,))

    def _line(self, tree: Parse) -> int:
        return (_edge(tree, 0).line or 1) + self.skipped

    def _text_of(self, tree: Parse) -> str:
        return self.text[_edge(tree, 0).start_pos : _edge(tree, -1).end_pos]

    def value(self, tree: Parse, place: Place) -> Node:
        """A literal, a list or an object as such; anything else as an expression."""
        here = Place(source=place.source, line=self._line(tree), path=place.path)
        inner = _bare(tree)
        literal = _literal_of(inner)
        if literal is not None:
            return Scalar(value=_literal(literal), place=here)
        match str(inner.data):
            case "string":
                return self._string(inner, here)
            case "heredoc_template" | "heredoc_template_trim":
                return heredoc_of(inner, here)
            case "tuple":
                return self._tuple(inner, here)
            case "object" if all(_key(it) is not None for it in _trees_of(inner)):
                return self._object(inner, here)
        return self._expression(tree, here)

    def _expression(self, tree: Parse, place: Place) -> Expression:
        text = self._text_of(tree)
        return Expression(value=text, place=place, parse=tree)

    def _tuple(self, tree: Parse, place: Place) -> Series:
        found = enumerate(_trees_of(tree))
        items = tuple(self.value(it, place.step(index)) for index, it in found)
        return Series(place=place, items=items)

    def _string(self, tree: Parse, place: Place) -> Scalar:
        parts = list(parts_of(tree))
        if all(isinstance(part, str) for part in parts):
            value = "".join(part for part in parts if isinstance(part, str))
            return Scalar(value=value, place=place, quoted=True)
        text = self._text_of(tree)
        return Expression(value=text, place=place, quoted=True, parse=tree)

    def _object(self, tree: Parse, place: Place) -> Table:
        entries = []
        for element in _trees_of(tree):
            key = _key(element) or ""
            here = place.step(key, self._line(element))
            value = self.value(_trees_of(element)[-1], here)
            entries.append(Entry(key=key, place=here, value=value))
        return Table(place=place, entries=tuple(entries))


def _edge(tree: Parse, index: int) -> Token:
    """The first or the last token of a parse; rules that matched nothing are passed over."""
    node: Parse | Token = tree
    while isinstance(node, Tree):
        node = [it for it in node.children if isinstance(it, Token) or it.children][index]
    return node


def _bare(tree: Parse) -> Parse:
    """A term without the wrapping and the parentheses around it."""
    while tree.data == "expr_term":
        tree = _trees_of(tree)[0]
    return tree


def _label(tree: Parse) -> str:
    if tree.data == "string":
        return "".join(part for part in parts_of(tree) if isinstance(part, str))
    return str(tree.children[0])


def _key(element: Parse) -> str | None:
    """The key of an object's element, unless it must be worked out."""
    (key,) = _trees_of(_trees_of(element)[0])
    wrapped = key.data == "expr_term" and isinstance(key.children[0], Token)
    if wrapped:  # (name) in parentheses is an expression
        return None
    inner = _bare(key)
    if inner.data in {"identifier", "keyword", "int_lit", "literal_value"}:
        return str(inner.children[0])
    if inner.data == "string" and all(isinstance(it, str) for it in parts_of(inner)):
        return _label(inner)
    return None


def _literal_of(tree: Parse) -> str | None:
    """The text of a number, of true, false or null; the grammar reads -1 as a minus and a 1."""
    if tree.data == "unary_op" and str(tree.children[0]) == "-":
        operand = _bare(_trees_of(tree)[0])
        return f"-{operand.children[0]}" if operand.data in _NUMBERS else None
    return str(tree.children[0]) if tree.data in {*_NUMBERS, "literal_value"} else None


def _literal(text: str) -> Plain:
    return _LITERALS[text] if text in _LITERALS else _number(text)


def _number(text: str) -> int | float | str:
    if len(text) > len("1" * 18):
        return text
    value = float(text)
    return int(value) if re.fullmatch(r"-?\d+", text) or value.is_integer() else value
