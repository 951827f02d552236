"""A mesh as VPC Lattice would have it: the resources to create, and what has to be said of them.

Goes in: a mesh, and the values that only its owner knows. Comes out: resources whose bodies are the
create requests of the API, in an order that works, with problems by their place in the mesh file.
Nothing is widened in silence: a rule that cannot be expressed is left out and said to be.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshml_dbx.mesh.limits import PARAMETER
from meshml_dbx.mesh.names import index
from meshml_dbx.mesh.places import Problem
from meshml_dbx.mesh.spec import Mesh, MeshClient, VirtualNode, VirtualService
from meshml_dbx.planes import lattice_terms as terms
from meshml_dbx.planes.lattice_doors import MOST_LISTENERS, Door, Doors, Share
from meshml_dbx.planes.lattice_names import lattice_name
from meshml_dbx.planes.lattice_policies import (
    Paths,
    document,
    invoke_statements,
    network_statement,
    paths_of,
)
from meshml_dbx.planes.plan import Plan, Resource, diff, fill, reference

MOST_RULES, MOST_POLICY, MOST_IDENTITY_POLICY = 10, 10_000, 6_144
MOST_OF_KIND = {"service": 500, "target-group": 500, "resource-configuration": 500}
LAST_PRIORITY = 2_000

ROLE = "ROLE_ARN_"
_HOST_LENGTHS = range(3, 256)
_CERTIFICATE = re.compile(r"arn:[a-z0-9-]+:acm:[a-z0-9-]+:\d{12}:certificate/[0-9a-z-]+")
MEANINGS: Mapping[str, str] = {
    "ACCOUNT_ID": "the account whose roles may call into the service network",
    "VPC_ID": "the VPC in which the targets run",
    "DATABRICKS_VPC_ID": "the VPC of the Databricks workspace's classic compute, where the clients "
    "run; serverless compute needs a private path of its own",
    "LOG_DESTINATION_ARN": "the log group, bucket or delivery stream for access logs",
    "SUBNET_ID": "a subnet of the VPC for the resource gateway",
    "SECURITY_GROUP_ID": "the security group of the resource gateway",
    "CERTIFICATE_ARN": "the ACM certificate for the domain name of a service",
    "ROLE_ARN": "the IAM role as which a caller runs",
}
"""What each open value is; those of one caller or service end in its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticePlan:
    """What would be created, and what the mesh asks for that it would not do.

    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> made = desired(Mesh(mesh=MeshHead(mesh_name="ml")))
    >>> made.plan.steps[0].resource.kind
    'service-network'
    """

    plan: Plan
    problems: tuple[Problem, ...]

    def count(self, kind: str) -> int:
        """How many resources of a kind there are."""
        return sum(step.resource.kind == kind for step in self.plan.steps)

    @property
    def unknowns(self) -> dict[str, str]:
        """The values that only the mesh's owner knows, and what each is."""
        return {name: meaning_of(name) for name in self.plan.unknowns}


def meaning_of(unknown: str) -> str:
    """What an open value is; one that the mesh file left open is its own."""
    known = (text for name, text in MEANINGS.items() if unknown == name)
    ended = (text for name, text in MEANINGS.items() if unknown.startswith(f"{name}_"))
    return next(known, next(ended, "a parameter of the mesh file"))


def desired(mesh: Mesh, values: Mapping[str, str] | None = None) -> LatticePlan:
    """The resources of a mesh, all of them to be created, with these values filled in."""
    draft = _Draft(mesh=mesh, values=values or {})
    _draft_network(draft)
    for service in mesh.virtual_services:
        _draft_service(draft, service)
    _draft_identities(draft)
    _draft_resource_logs(draft)
    _note_gateways(draft)
    _note_quotas(draft)
    filled = [fill(resource, draft.values) for resource in draft.resources.values()]
    return LatticePlan(plan=diff(filled), problems=tuple(dict.fromkeys(draft.problems)))


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A plan in the making."""

    mesh: Mesh
    values: Mapping[str, str]
    resources: dict[str, Resource] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    grants: dict[str, list[tuple[str, Paths]]] = field(default_factory=dict)
    doors: Doors = field(init=False)
    callers: Mapping[str, Sequence[str]] = field(init=False)
    network: str = field(init=False)

    def __post_init__(self) -> None:
        self.doors = Doors(self.mesh)
        self.callers = _callers(self.mesh)
        self.network = self.name("service-network")

    def name(self, kind: str, *parts: str, shown: str = "") -> str:
        return lattice_name(kind, self.mesh.mesh.mesh_name, *parts, shown=shown)

    def add(self, kind: str, name: str, body: Mapping[str, object]) -> str:
        """Note a resource; the text that stands for its id."""
        resource = Resource(kind=kind, name=name, body=body)
        self.resources.setdefault(resource.key, resource)
        return reference(kind, name)

    def report(self, code: str, path: str, what: str) -> None:
        self.problems.append(Problem(code, path, what))

    def tags(self, *own: Mapping[str, str], **meant: str) -> dict[str, str]:
        """The mesh's tags, the entry's, and by which names this came from the mesh file."""
        named = {f"meshml:{key.replace('_', '-')}": value[:256] for key, value in meant.items()}
        mesh = {"meshml:mesh": self.mesh.mesh.mesh_name}
        return terms.tags_of(self.mesh.tags, *own, mesh, named)


def _callers(mesh: Mesh) -> Mapping[str, Sequence[str]]:
    """The members that list each virtual service; what runs outside the mesh calls nobody."""
    groups = index(mesh).backend_groups
    found: dict[str, dict[str, None]] = {}
    for name, member in _members(mesh):
        for backend in member.spec.backends:
            found.setdefault(backend.virtual_service.virtual_service_name, {})[name] = None
        for group in member.spec.backend_groups:
            for service in groups[group].spec.virtual_services if group in groups else ():
                found.setdefault(service, {})[name] = None
    return {service: tuple(names) for service, names in found.items()}


def _members(mesh: Mesh) -> Iterator[tuple[str, MeshClient | VirtualNode]]:
    yield from ((it.client_name, it) for it in mesh.clients)
    yield from ((it.virtual_node_name, it) for it in mesh.virtual_nodes if not it.is_external)


# --- the network ------------------------------------------------------------------------------


def _draft_network(draft: _Draft) -> None:
    body = {"name": draft.network, "authType": "AWS_IAM", "tags": draft.tags()}
    network = draft.add("service-network", draft.network, body)
    account = draft.mesh.mesh.mesh_owner or "${ACCOUNT_ID}"
    policy = document([network_statement(account)])
    draft.add("auth-policy", draft.network, {"resourceIdentifier": network, "policy": policy})
    vpcs = {"vpc": "${VPC_ID}"}
    if draft.mesh.clients:
        vpcs["databricks-vpc"] = "${DATABRICKS_VPC_ID}"
    seen = set()
    for name, vpc in vpcs.items():
        given = draft.values.get(vpc[2:-1], vpc)
        if given not in seen:  # a VPC can be associated once
            seen.add(given)
            association = {"serviceNetworkIdentifier": network, "vpcIdentifier": vpc}
            draft.add("vpc-association", name, association)
    _draft_log(draft, "SERVICE")


def _draft_log(draft: _Draft, log_type: str) -> None:
    body = {
        "resourceIdentifier": reference("service-network", draft.network),
        "destinationArn": "${LOG_DESTINATION_ARN}",
        "serviceNetworkLogType": log_type,
    }
    draft.add("access-log-subscription", f"{draft.network}-{log_type.lower()}", body)


def _draft_resource_logs(draft: _Draft) -> None:
    if any(it.kind == "resource-configuration" for it in draft.resources.values()):
        _draft_log(draft, "RESOURCE")


# --- services ---------------------------------------------------------------------------------


def _draft_service(draft: _Draft, service: VirtualService) -> None:
    name = service.virtual_service_name
    path = f"virtualServices[{name}]"
    doors = draft.doors.of_service(service)
    requests = [door for door in doors if door.protocol != "TCP"]
    for door in requests[MOST_LISTENERS:]:
        what = f"port {door.mapping.port}: a Lattice service has at most {MOST_LISTENERS} listeners"
        draft.report("lattice-listener-left-out", door.path, what)
    used = requests[:MOST_LISTENERS]
    if any(not share.problem for door in used for share in door.targets):
        _draft_http_service(draft, service, used)
    elif used or not doors:
        draft.report("lattice-service-left-out", path, _why_nobody(name, used))
    for door in doors:
        if door.protocol == "TCP":
            _draft_tcp(draft, service, door)


def _why_nobody(name: str, doors: Sequence[Door]) -> str:
    problems = dict.fromkeys(it.problem for door in doors for it in door.targets if it.problem)
    reasons = "; ".join(problems) or "nothing that listens provides it"
    return f"{name} is not made: {reasons}"


def _draft_http_service(draft: _Draft, service: VirtualService, doors: Sequence[Door]) -> None:
    name = service.virtual_service_name
    made = draft.name("service", name)
    body: dict[str, object] = {
        "name": made,
        "authType": "AWS_IAM",
        "idleTimeoutSeconds": terms.idle_seconds(doors),
        "tags": draft.tags(service.tags, virtual_service=name),
    }
    if terms.is_domain(name):
        body["customDomainName"] = name
    if terms.is_domain(name) and any(door.protocol == "HTTPS" for door in doors):
        body["certificateArn"] = _certificate(name, doors)
    draft.add("service", made, body)
    _note_address(draft, service, doors)
    for door in doors:
        _draft_listener(draft, service, door)
    _draft_access(draft, service, paths_of(doors))
    association = {
        "serviceIdentifier": reference("service", made),
        "serviceNetworkIdentifier": reference("service-network", draft.network),
    }
    draft.add("service-association", made, association)


def _certificate(name: str, doors: Sequence[Door]) -> str:
    """The one ACM certificate that all the service's targets name, else an open value."""
    held = {
        it.listener.tls.certificate.acm.certificate_arn
        for door in doors
        for it in door.targets
        if it.listener and it.listener.tls and it.listener.tls.certificate.acm
    }
    usable = {arn for arn in held if _CERTIFICATE.fullmatch(arn) or PARAMETER.search(arn)}
    return usable.pop() if len(held) == len(usable) == 1 else _certificate_of(name)


def _certificate_of(name: str) -> str:
    return f"${{CERTIFICATE_ARN_{_parameter(name)}}}"


def _parameter(name: str) -> str:
    """A name as the end of an open value's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", PARAMETER.sub(r"\1", name))


def _note_address(draft: _Draft, service: VirtualService, doors: Sequence[Door]) -> None:
    name = service.virtual_service_name
    path = f"virtualServices[{name}]"
    if not terms.is_domain(name):
        what = f"{name} is no domain of yours: it is called by the name that Lattice generates"
        draft.report("lattice-address-changed", path, what)
    for door in doors:
        if door.protocol == "HTTPS":
            what = f"http://{name}:{door.mapping.port} becomes https://{name}:{door.port}"
            draft.report("lattice-address-changed", path, what)


# --- listeners, rules, target groups ----------------------------------------------------------


def _draft_listener(draft: _Draft, service: VirtualService, door: Door) -> None:
    name = service.virtual_service_name
    owner = reference("service", draft.name("service", name))
    shown = f"{door.protocol}-{door.port}"
    made = draft.name("listener", name, shown, shown=shown)
    action = terms.fixed(terms.NOT_FOUND)
    if door.shares:
        action = _action(draft, name, door.path, door.shares)
    body = {
        "serviceIdentifier": owner,
        "name": made,
        "protocol": door.protocol,
        "port": door.port,
        "defaultAction": action,
    }
    listener = draft.add("listener", made, body)
    for priority, rule in enumerate(door.kept, start=1):
        if priority > LAST_PRIORITY:
            break  # the quota's finding names them
        route = rule.route.route_name
        made = draft.name("rule", name, str(door.port), route, shown=route)
        body = {
            "serviceIdentifier": owner,
            "listenerIdentifier": listener,
            "name": made,
            "priority": priority,
            "match": dict(rule.match),
            "action": _action(draft, name, rule.path, rule.shares),
            "tags": draft.tags(rule.route.tags, route=rule.route.route_name),
        }
        draft.add("rule", made, body)
    _note_rules(draft, door)


def _action(draft: _Draft, service: str, path: str, shares: Sequence[Share]) -> dict[str, object]:
    """Where a rule's calls go; shares that cannot be had pass to the others, and it is said."""
    for share in shares:
        if share.problem:
            what = f"{share.problem}; its part of the calls goes to the other targets"
            if all(it.problem or not it.weight for it in shares):
                what = f"{share.problem}; the rule answers {terms.FAILED}"
            draft.report("lattice-target-left-out", path, what)
    groups = [(_target_group(draft, service, it), it.weight) for it in shares if not it.problem]
    return terms.forward(groups)


def _target_group(draft: _Draft, service: str, share: Share) -> str:
    """The group of a node for one service: Lattice lets no two services share one."""
    node, listener = share.node, share.listener
    if node is None or listener is None:
        raise ValueError(f"{share.virtual_node} is nowhere to be reached")
    name, port = node.virtual_node_name, str(listener.port_mapping.port)
    made = draft.name("target-group", service, name, port, shown=f"{name}-{port}")
    body = {
        "name": made,
        **terms.target_group(node, listener, "${VPC_ID}"),
        "tags": draft.tags(node.tags, virtual_node=node.virtual_node_name),
    }
    return draft.add("target-group", made, body)


def _note_rules(draft: _Draft, door: Door) -> None:
    follower = f"the default, {terms.NOT_FOUND}"
    notes = []
    for rule in reversed(door.rules):
        if rule.gaps:
            gaps = "; ".join(f"{gap.field}: {gap.why}" for gap in rule.gaps)
            notes.append((rule, f"{gaps}; its requests fall to {follower}"))
        else:
            follower = f"route {rule.route.route_name}, where it takes them, else on"
    for rule, what in reversed(notes):
        draft.report("lattice-rule-left-out", rule.path, what)
    if len(door.kept) > MOST_RULES:
        what = f"{len(door.kept)} rules on port {door.port}; the quota is {MOST_RULES} a listener"
        draft.report("lattice-quota", door.path, what)


# --- TCP --------------------------------------------------------------------------------------


def _draft_tcp(draft: _Draft, service: VirtualService, door: Door) -> None:
    name = service.virtual_service_name
    found = _tcp_target(door)
    if isinstance(found, str):
        what = f"port {door.mapping.port}: {found}"
        draft.report("lattice-listener-left-out", door.path, what)
        return
    host, port, address_type = found
    made = draft.name("resource-configuration", name, str(door.mapping.port))
    body = {
        "name": made,
        "type": "SINGLE",
        "protocol": "TCP",
        "portRanges": [str(port)],
        "resourceGatewayIdentifier": _resource_gateway(draft),
        "resourceConfigurationDefinition": {
            "dnsResource": {"domainName": host, "ipAddressType": address_type}
        },
        "tags": draft.tags(service.tags, virtual_service=name),
    }
    configuration = draft.add("resource-configuration", made, body)
    association = {
        "resourceConfigurationIdentifier": configuration,
        "serviceNetworkIdentifier": reference("service-network", draft.network),
    }
    draft.add("resource-association", made, association)
    what = f"{name}:{door.mapping.port} is reached by Lattice's name for it, port {port}"
    draft.report("lattice-address-changed", f"virtualServices[{name}]", what)
    what = f"{name} is TCP: no policy says who calls it, whoever is in the network may"
    draft.report("lattice-tcp-open", f"virtualServices[{name}]", what)


def _tcp_target(door: Door) -> tuple[str, int, str] | str:
    """The one host, port and kind of address that a TCP door leads to, or why it is not one."""
    shares: Sequence[Share] = door.shares
    if door.rules:
        shares = door.rules[0].shares  # a tcp route has no match: the first takes every connection
    live = [it for it in shares if it.weight]
    if len(live) != 1:
        return f"a TCP resource is one host, and this leads to {len(live)}"
    (share,) = live
    discovery = share.node.spec.service_discovery if share.node else None
    if share.listener is None or discovery is None:
        return share.problem or f"{share.virtual_node} has no host name"
    if len(discovery.hostname) not in _HOST_LENGTHS:
        return (
            f"a TCP resource's host name has 3 to 255 characters, and this is {discovery.hostname}"
        )
    address_type = terms.address_type(discovery.ip_preference)
    return discovery.hostname, share.listener.port_mapping.port, address_type


def _resource_gateway(draft: _Draft) -> str:
    made = draft.name("resource-gateway")
    body = {
        "name": made,
        "vpcIdentifier": "${VPC_ID}",
        "subnetIds": ["${SUBNET_ID}"],
        "securityGroupIds": ["${SECURITY_GROUP_ID}"],
        "ipAddressType": "IPV4",
        "resourceConfigDnsResolution": "IN_VPC",
        "tags": draft.tags(),
    }
    return draft.add("resource-gateway", made, body)


# --- who may call -----------------------------------------------------------------------------


def _draft_access(draft: _Draft, service: VirtualService, paths: Paths) -> None:
    name = service.virtual_service_name
    path = f"virtualServices[{name}]"
    made = draft.name("service", name)
    callers = draft.callers.get(name, ())
    if not callers or not paths:
        why = "it has no rule" if callers else "no client or node lists it among its backends"
        draft.report("lattice-no-caller", path, f"{why}: nobody may call {name}")
        return
    arn = reference("service", made, "arn")
    roles = [f"${{{ROLE}{_parameter(caller)}}}" for caller in callers]
    policy = document(invoke_statements(arn, paths, principals=roles))
    body = {"resourceIdentifier": reference("service", made), "policy": policy}
    draft.add("auth-policy", made, body)
    for caller in callers:
        draft.grants.setdefault(caller, []).append((arn, paths))
    if len(policy) > MOST_POLICY:
        what = f"the auth policy has {len(policy)} characters; the quota is {MOST_POLICY}"
        draft.report("lattice-quota", path, what)


def _draft_identities(draft: _Draft) -> None:
    """The callers' own side of each permission: Lattice asks for both."""
    for caller, member in _members(draft.mesh):
        if caller not in draft.grants:
            continue
        made = draft.name("iam-policy", "invoke", caller)
        statements = [
            statement
            for arn, paths in draft.grants[caller]
            for statement in invoke_statements(arn, paths)
        ]
        policy = document(statements)
        draft.add("iam-policy", made, {"PolicyName": made, "PolicyDocument": policy})
        kind = "clients" if isinstance(member, MeshClient) else "virtualNodes"
        path = f"{kind}[{caller}]"
        role = f"{ROLE}{_parameter(caller)}"
        if role not in draft.values:
            draft.report("lattice-unknown-role", path, _role_needed(caller, member, role))
        if len(policy) > MOST_IDENTITY_POLICY:
            what = f"its identity policy has {len(policy)} characters; IAM takes 6144"
            draft.report("lattice-quota", path, what)


def _role_needed(caller: str, member: MeshClient | VirtualNode, role: str) -> str:
    principal = None
    if isinstance(member, MeshClient) and member.databricks:
        principal = member.databricks.service_principal
    seen = f"; the service principal {principal} is none" if principal else ""
    return f"{caller} calls as an IAM role, and none is known{seen}: --param {role}=ARN"


# --- what does not fit ------------------------------------------------------------------------


def _note_gateways(draft: _Draft) -> None:
    for gateway in draft.mesh.virtual_gateways:
        name = gateway.virtual_gateway_name
        what = f"{name} is not made: Lattice takes calls from its VPCs only"
        draft.report("lattice-gateway-left-out", f"virtualGateways[{name}]", what)


def _note_quotas(draft: _Draft) -> None:
    for kind, most in MOST_OF_KIND.items():
        count = sum(it.kind == kind for it in draft.resources.values())
        if count > most:
            what = f"{count} of kind {kind}; the quota is {most}"
            draft.report("lattice-quota", "mesh.meshName", what)
