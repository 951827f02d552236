"""IAM's side of a mesh on VPC Lattice: who may invoke which paths of a service.

Lattice asks twice: the service's auth policy and the caller's own identity policy must both allow a
call, and without a policy nobody may. Both documents are made here from the same paths, so that
neither allows what the other does not.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from meshml_dbx.planes.lattice_doors import Door, Rule

INVOKE = "vpc-lattice-svcs:Invoke"
METHOD_KEY = "vpc-lattice-svcs:RequestMethod"
VERSION = "2012-10-17"

Paths = Mapping[str | None, tuple[str, ...]]
"""The paths of a service by the method that they are for; None: by any."""


def document(statements: Sequence[Mapping[str, object]]) -> str:
    """A policy as Lattice takes it: on one line, since blank lines are refused."""
    policy = {"Version": VERSION, "Statement": list(statements)}
    return json.dumps(policy, separators=(",", ":"), ensure_ascii=False)


def network_statement(account: str) -> dict[str, object]:
    """The network's own: any signed call of this account; each service says who exactly."""
    return {
        "Effect": "Allow",
        "Principal": {"AWS": account},
        "Action": INVOKE,
        "Resource": "*",
    }


def paths_of(doors: Iterable[Door]) -> Paths:
    """The paths that the doors of a service lead on, each once, the widest instead of all."""
    found: dict[str | None, dict[str, None]] = {}
    for door in doors:
        if door.shares:
            found.setdefault(None, {})["/*"] = None
        for rule in door.kept:
            method, path = _path_of(rule)
            found.setdefault(method, {})[path] = None
    anyhow = found.get(None, {})
    if "/*" in anyhow:
        return {None: ("/*",)}
    return {
        method: tuple(path for path in paths if method is None or path not in anyhow)
        for method, paths in found.items()
        if method is None or not paths.keys() <= anyhow.keys()
    }


def _path_of(rule: Rule) -> tuple[str | None, str]:
    match = _mapping(rule.match["httpMatch"])
    path = _mapping(_mapping(match["pathMatch"])["match"])
    text = str(path["exact"]) if "exact" in path else f"{path['prefix']}*"
    method = match.get("method")
    return str(method) if method else None, text.replace("?", "${?}")  # else one character


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def invoke_statements(
    arn: str, paths: Paths, *, principals: Sequence[str] = ()
) -> list[dict[str, object]]:
    """What allows calls on these paths of a service; an identity policy names no principals."""
    statements: list[dict[str, object]] = []
    for method, ends in paths.items():
        statement: dict[str, object] = {"Effect": "Allow"}
        if principals:
            statement["Principal"] = {"AWS": list(principals)}
        statement["Action"] = INVOKE
        statement["Resource"] = [f"{arn}{end}" for end in ends]
        if method:
            statement["Condition"] = {"StringEquals": {METHOD_KEY: method}}
        statements.append(statement)
    return statements
