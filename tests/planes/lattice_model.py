"""VPC Lattice as its own API describes it: what a request may hold, and which rule takes a call.

The service's model comes with botocore; ``violations`` holds a body against it, with the patterns
that botocore itself leaves to the server. ``rule_taking`` reads rules as the user guide tells them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import botocore.session  # type: ignore[import-untyped]  # ships without types
from botocore.model import ServiceModel, Shape  # type: ignore[import-untyped]  # as above
from botocore.validate import ParamValidator  # type: ignore[import-untyped]  # as above

from meshml_dbx.planes.plan import Attribute, Plan, Resource, fill, resolve

OPERATIONS = {
    "service-network": ("vpc-lattice", "CreateServiceNetwork"),
    "service": ("vpc-lattice", "CreateService"),
    "listener": ("vpc-lattice", "CreateListener"),
    "rule": ("vpc-lattice", "CreateRule"),
    "target-group": ("vpc-lattice", "CreateTargetGroup"),
    "auth-policy": ("vpc-lattice", "PutAuthPolicy"),
    "access-log-subscription": ("vpc-lattice", "CreateAccessLogSubscription"),
    "service-association": ("vpc-lattice", "CreateServiceNetworkServiceAssociation"),
    "vpc-association": ("vpc-lattice", "CreateServiceNetworkVpcAssociation"),
    "resource-gateway": ("vpc-lattice", "CreateResourceGateway"),
    "resource-configuration": ("vpc-lattice", "CreateResourceConfiguration"),
    "resource-association": ("vpc-lattice", "CreateServiceNetworkResourceAssociation"),
    "iam-policy": ("iam", "CreatePolicy"),
}
_PREFIXES = {
    "service-network": "sn",
    "service": "svc",
    "listener": "listener",
    "rule": "rule",
    "target-group": "tg",
    "resource-gateway": "rgw",
    "resource-configuration": "rcfg",
}
ACCOUNT = "111122223333"
_OPEN = {
    "ACCOUNT_ID": ACCOUNT,
    "VPC_ID": "vpc-0a1b2c3d4e5f60718",
    "DATABRICKS_VPC_ID": "vpc-0a1b2c3d4e5f60719",
    "SUBNET_ID": "subnet-0a1b2c3d4e5f60718",
    "SECURITY_GROUP_ID": "sg-0a1b2c3d4e5f60718",
    "LOG_DESTINATION_ARN": f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:/aws/vpclattice:*",
}


def given_values(unknowns: Sequence[str]) -> dict[str, str]:
    """A likely value for everything that a plan leaves open."""
    return {name: _OPEN.get(name) or _value_of(name) for name in unknowns}


def _value_of(name: str) -> str:
    if name.startswith("ROLE_ARN_"):
        return f"arn:aws:iam::{ACCOUNT}:role/caller"
    return f"arn:aws:acm:eu-west-1:{ACCOUNT}:certificate/0a1b2c3d"


def carried_out(plan: Plan) -> Iterator[Resource]:
    """Each resource as it would be sent: open values given, and the earlier ones' ids."""
    values = given_values(plan.unknowns)
    ids: dict[str, dict[Attribute, str]] = {}
    for number, step in enumerate(plan.steps):
        sent = resolve(fill(step.resource, values), ids)
        made = f"{_PREFIXES.get(sent.kind, 'x')}-{number:017d}"
        arn = f"arn:aws:vpc-lattice:eu-west-1:{ACCOUNT}:{sent.kind.replace('-', '')}/{made}"
        ids[sent.key] = {"id": made, "arn": arn}
        yield sent


def violations(resource: Resource) -> list[str]:
    """What the API's model says against a body."""
    service, operation = OPERATIONS[resource.kind]
    shape = _model(service).operation_model(operation).input_shape
    assert shape is not None
    report = ParamValidator().validate(dict(resource.body), shape).generate_report()
    return [*report.splitlines(), *_unlike_pattern(resource.body, shape, resource.key)]


@cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def _unlike_pattern(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for key, one in value.items():
            yield from _unlike_pattern(one, cast("Any", shape).members[key], f"{path}.{key}")
    elif shape.type_name == "list":
        for one in value:
            yield from _unlike_pattern(one, cast("Any", shape).member, path)
    elif shape.type_name == "string":
        pattern, longest = shape.metadata.get("pattern"), shape.metadata.get("max")
        if pattern and "u0009" not in pattern and not re.fullmatch(pattern, value):
            yield f"{path}: {value!r} is unlike {pattern}"
        if longest and len(value) > longest:
            yield f"{path}: {value!r} is longer than {longest}"
        allowed = cast("Any", shape).enum
        if allowed and value not in allowed:
            yield f"{path}: {value!r} is none of {allowed}"


# --- which rule takes a request ---------------------------------------------------------------


def rule_taking(
    rules: Sequence[Resource], *, method: str, path: str, headers: Mapping[str, str]
) -> Resource | None:
    """The rule of the lowest priority that a request meets, or None: the default action."""
    for rule in sorted(rules, key=lambda it: cast("int", it.body["priority"])):
        match = cast("Any", rule.body["match"])["httpMatch"]
        if _meets(match, method=method, path=path, headers=headers):
            return rule
    return None


def _meets(match: Any, *, method: str, path: str, headers: Mapping[str, str]) -> bool:
    if match.get("method", method) != method:
        return False
    asked = match["pathMatch"]["match"]
    if "exact" in asked and path != asked["exact"]:
        return False
    if "prefix" in asked and not path.startswith(asked["prefix"]):
        return False
    return all(_header_meets(header, headers) for header in match.get("headerMatches", ()))


def _header_meets(header: Any, headers: Mapping[str, str]) -> bool:
    lower = {name.lower(): value for name, value in headers.items()}
    value = lower.get(header["name"].lower())
    if value is None:
        return False
    asked = header["match"]
    return value == asked["exact"] if "exact" in asked else value.startswith(asked["prefix"])
