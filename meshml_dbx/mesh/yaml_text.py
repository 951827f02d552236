"""YAML text becomes a tree of nodes, each with its line, or a refusal with the line of its cause.

The text goes to the YAML reader only if that is safe: nesting is followed on the C stack, and a few
anchors can stand for more than any memory holds.
"""

import yaml

_Base: type[yaml.CSafeLoader] | type[yaml.SafeLoader]
_Base = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
CORE = "tag:yaml.org,2002:"
MERGE = f"{CORE}merge"
_NO_TEXT = yaml.reader.Reader.NON_PRINTABLE
_DEEPEST = 100  # libyaml follows nesting on the C stack and would end the process
_MOST_REPEATED = 500_000  # values that anchors may stand for, a mesh of 5,000 services times two


class RefusedTextError(Exception):
    """Raised, and turned into a finding, for a text that is no YAML or not safe to read.

    >>> RefusedTextError("not YAML", 3).line
    3
    """

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def compose_text(text: str) -> yaml.Node | None:
    """The tree of a text's one document; None if there is none.

    Raises:
        RefusedTextError: what is wrong, with the line, from 1.
    """
    try:
        _refuse_noise(text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise RefusedTextError(f"not YAML: {problem}", mark.line + 1 if mark else 1) from error
    except yaml.YAMLError as error:
        raise RefusedTextError(f"not YAML: {error}", 1) from error
    if root is not None:
        _Sizes().of(root)
    return root


def line_of(place: yaml.Node | yaml.Event) -> int:
    """The line, from 1, on which a node begins; 1 for one that no text wrote."""
    return int(place.start_mark.line) + 1 if place.start_mark else 1


def is_null(node: yaml.Node) -> bool:
    """Whether a node is nothing, in any of YAML's ways to write it."""
    return node.tag == f"{CORE}null" and isinstance(node, yaml.ScalarNode)


def _refuse_noise(text: str) -> None:
    noise = _NO_TEXT.search(text)
    if noise:
        line = text.count("\n", 0, noise.start()) + 1
        raise RefusedTextError(f"not YAML: the character U+{ord(noise[0]):04X} is no text", line)


class _Loader(_Base):  # type: ignore[misc, valid-type]  # whichever of the two there is
    """The safe loader, which stops before nesting gets too deep and resolves each word once."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._tags: dict[str, str] = {}

    def descend_resolver(self, current_node: yaml.Node | None, current_index: object) -> None:
        """Called before each node is made, with the node around it."""
        del current_index
        self._depth += 1
        if self._depth > _DEEPEST + 1 and current_node is not None:
            problem = f"not YAML: nested more than {_DEEPEST} levels deep"
            raise RefusedTextError(problem, line_of(current_node))

    def ascend_resolver(self) -> None:
        """Called after each node is made."""
        self._depth -= 1

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: object) -> str:
        """The tag of a node that names none: most plain words of a file occur many times."""
        if kind is yaml.MappingNode:
            return f"{CORE}map"
        if kind is yaml.SequenceNode:
            return f"{CORE}seq"
        if value is None or not isinstance(implicit, tuple) or not implicit[0]:
            return f"{CORE}str"
        tag = self._tags.get(value)
        if tag is None:
            tag = self._tags[value] = str(super().resolve(kind, value, implicit))
        return tag


class _Sizes:
    """How many values the nodes of one tree stand for when every anchor is written out."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node) -> int:
        """The size of a node; refuses one that is too large, or that holds itself."""
        if isinstance(node, yaml.ScalarNode):
            return 1
        known = self._known.get(id(node))
        if known is None:
            self._open.add(id(node))
            known = self._known[id(node)] = 1 + sum(map(self._within, _parts(node)))
            self._open.discard(id(node))
        if known > _MOST_REPEATED:
            problem = f"its anchors stand for more than {_MOST_REPEATED:,} values"
            raise RefusedTextError(problem, line_of(node))
        return known

    def _within(self, part: tuple[yaml.Node | None, yaml.Node]) -> int:
        key, value = part
        if id(value) not in self._open:
            return self.of(value)
        if key is not None and key.tag == MERGE:
            return 1  # what merges itself merges nothing
        raise RefusedTextError("an anchor holds itself", line_of(value))


def _parts(node: yaml.Node) -> list[tuple[yaml.Node | None, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    return [(None, value) for value in node.value]
