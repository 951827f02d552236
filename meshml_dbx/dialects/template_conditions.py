"""The conditions of a template: which hold, and which hang on what is unknown.

Conditions by name go in; the truth of each comes out, worked out once. A value that is unknown is
taken as equal to nothing but itself, in every condition alike, and that is reported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from meshml_dbx.dialects.found import Account
from meshml_dbx.dialects.intrinsics import UNKNOWN, Call, UnusableError, arguments_of, call_of
from meshml_dbx.dialects.template_parameters import text_of
from meshml_dbx.dialects.tree import Entry, Node, Place, Scalar, Table, scalars

_DEEPEST = 60  # functions and conditions in each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a condition comes to, and the unknowns that it hangs on.

    >>> Truth(value=False, unknown=("Environment",)).unknown
    ('Environment',)
    """

    value: bool
    unknown: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Conditions:
    """The conditions of one template; ``work_out`` gives a value without its functions.

    >>> place = Place(source="app.yaml", line=1)
    >>> none = Conditions(declared={}, account=Account(), work_out=lambda node: node)
    >>> none.holds(Scalar(value="IsProduction", place=place))
    False
    """

    declared: Mapping[str, Entry]
    account: Account
    work_out: Callable[[Node], Node | None]
    decided: dict[str, Truth] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    _depth: int = 0

    def holds(self, name: Scalar) -> bool:
        """Whether a named condition holds; one that hangs on an unknown is reported once."""
        self.account.use(name)
        key = text_of(name)
        truth = self.named(key, name.place)
        if truth.unknown and key not in self.told:
            self._tell(self.declared[key], truth)
        self.told.add(key)
        return truth.value

    def named(self, name: str, place: Place) -> Truth:
        """What a named condition comes to."""
        if name in self.decided:
            return self.decided[name]
        entry = self.declared.get(name)
        if entry is None:
            what = f"the condition {name} is not declared; it is taken as false"
            self.account.report("template-reference", place, what)
            return Truth(value=False)
        if name in self._asked:
            raise UnusableError(f"the condition {name} refers to itself", "template-cycle")
        self._asked.add(name)
        try:
            self.decided[name] = found = self._of_entry(entry)
        finally:
            self._asked.discard(name)
        return found

    def truth(self, node: Node) -> Truth:
        """What a condition's functions come to."""
        call = call_of(node) or _long_condition(node)
        function = _FUNCTIONS.get(call.name) if call else None
        if call is None or function is None:
            raise UnusableError("a condition is made of Fn::Equals, And, Or, Not and Condition")
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise UnusableError("conditions lead through too many others", "template-cycle")
            return function(self, call.arguments)
        finally:
            self._depth -= 1

    def _of_entry(self, entry: Entry) -> Truth:
        try:
            return self.truth(entry.value)
        except UnusableError as error:
            what = f"{error}; the condition {entry.key} is taken as false"
            self.account.report(error.code, entry.place, what)
            return Truth(value=False)

    def _tell(self, entry: Entry, truth: Truth) -> None:
        taken = str(truth.value).lower()
        what = (
            f"the condition {entry.key} hangs on {', '.join(truth.unknown)}, which "
            f"{'is' if len(truth.unknown) == 1 else 'are'} unknown; it is taken as {taken}"
        )
        given = " ".join(f"--param {name}=VALUE" for name in truth.unknown)
        self.account.report("template-condition", entry.place, what, advice=f"give {given}")


def _long_condition(node: Node) -> Call | None:
    found = node.get("Condition") if isinstance(node, Table) and len(node.entries) == 1 else None
    return Call("Condition", found) if found else None


def _equals(it: Conditions, node: Node) -> Truth:
    left, right = (
        _texts(it.work_out(one)) for one in arguments_of(node, 2, 2, "Fn::Equals takes two values")
    )
    if left == right:
        return Truth(value=True)
    unknown = [name for text in (*left, *right) for name in UNKNOWN.findall(text)]
    return Truth(value=False, unknown=tuple(dict.fromkeys(unknown)))


def _and(it: Conditions, node: Node) -> Truth:
    found = _truths(it, node, "Fn::And takes a list of conditions")
    if any(not one.value and not one.unknown for one in found):
        return Truth(value=False)
    return Truth(value=all(one.value for one in found), unknown=_hanging(found))


def _or(it: Conditions, node: Node) -> Truth:
    found = _truths(it, node, "Fn::Or takes a list of conditions")
    if any(one.value and not one.unknown for one in found):
        return Truth(value=True)
    return Truth(value=any(one.value for one in found), unknown=_hanging(found))


def _not(it: Conditions, node: Node) -> Truth:
    (found,) = _truths(it, node, "Fn::Not takes a list of one condition", most=1)
    return Truth(value=not found.value, unknown=found.unknown)


def _condition(it: Conditions, node: Node) -> Truth:
    if isinstance(node, Scalar):
        return it.named(text_of(node), node.place)
    raise UnusableError("Condition takes a condition's name")


def _truths(it: Conditions, node: Node, usage: str, most: int = 10) -> list[Truth]:
    return [it.truth(one) for one in arguments_of(node, 1, most, usage)]


def _hanging(found: list[Truth]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in found for name in one.unknown))


def _texts(node: Node | None) -> list[str]:
    return [] if node is None else [text_of(one) for one in scalars(node)]


_FUNCTIONS: Mapping[str, Callable[[Conditions, Node], Truth]] = MappingProxyType(
    {
        "Condition": _condition,
        "Fn::And": _and,
        "Fn::Equals": _equals,
        "Fn::Not": _not,
        "Fn::Or": _or,
    }
)
