"""An explanation as lines for a person's eyes: the answer first, then how it came about."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshml_dbx.mesh.explained import Considered, RequestExplanation, Target
    from meshml_dbx.mesh.settings_of import Setting

_NAMED = 5


def lines_of(found: "RequestExplanation") -> Iterator[str]:
    """The answer, the rules in their order, the policies, the targets, the advice."""
    yield found.sentence
    at = f" · virtual service {found.virtual_service}" if found.virtual_service else ""
    yield f"  mesh {found.mesh}, version {found.mesh_version}{at}"
    if found.considered:
        yield ""
        yield "asked in this order:"
        for number, one in enumerate(found.considered, 1):
            yield from _rule(number, one)
    if found.not_asked:
        yield f"  not asked any more: {_some(found.not_asked)}"
    if found.settings:
        yield ""
        yield "policies of the call:"
        yield from (_setting(one) for one in found.settings)
    if found.targets:
        yield ""
        yield "targets:"
        for target in found.targets:
            yield from _target(target)
    if found.advice:
        yield ""
        yield f"next: {found.advice}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _rule(number: int, one: "Considered") -> Iterator[str]:
    verdict = "TAKES IT" if one.taken else "no"
    yield f"  {number}. {one.kind} {one.name}: {verdict}  ({one.where})"
    for check in one.checks:
        yield f"       {check}"
    if not one.checks:
        yield "       asks nothing: takes whatever comes"
    if one.asks_for:
        yield f"       asks the mesh for {one.asks_for}"


def _setting(one: "Setting") -> str:
    return f"  {one.name}: {one.value}, {one.source}  ({one.where})"


def _target(target: "Target") -> Iterator[str]:
    peer = target.peer
    yield f"  {target.virtual_node}: {target.share:.1%} at {target.address}  ({target.where})"
    yield f"       {peer.said}  ({peer.where})"
    if peer.encrypted and peer.expected:
        yield f"       expects {' or '.join(peer.expected)}"
    if peer.encrypted and peer.shown:
        asked = "" if peer.asked else ", which the node does not ask for"
        yield f"       shows {peer.shown}{asked}"
    elif peer.encrypted and peer.asked:
        yield "       shows nothing, but the node asks for a certificate: it will refuse"
    yield from (f"     its listener's{_setting(one)[1:]}" for one in target.settings)
