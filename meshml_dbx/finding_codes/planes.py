"""Codes of planes: what one of them cannot keep, or must be told."""

from meshml_dbx.finding_codes.code import Code, Severity

PLANES: dict[str, Code] = {
    "lattice-rule-left-out": Code(
        number="MESH250",
        title="a route whose match VPC Lattice cannot express: no rule is made for it",
        severity=Severity.WARNING,
        advice="match by path, method or header value or prefix, or keep an Envoy for it",
    ),
    "lattice-service-left-out": Code(
        number="MESH251",
        title="a virtual service that VPC Lattice cannot carry",
        severity=Severity.WARNING,
        advice="let its callers call the host itself, or give it a node in a VPC",
    ),
    "lattice-listener-left-out": Code(
        number="MESH252",
        title="a listener that VPC Lattice cannot have",
        severity=Severity.WARNING,
        advice="make it a virtual service of its own, or keep an Envoy for it",
    ),
    "lattice-target-left-out": Code(
        number="MESH253",
        title="a target that VPC Lattice cannot reach: its part of the calls goes elsewhere",
        severity=Severity.WARNING,
        advice="give the target a node in a VPC, or set its weight to 0 before the move",
    ),
    "lattice-gateway-left-out": Code(
        number="MESH254",
        title="a virtual gateway: VPC Lattice has no way in from outside",
        severity=Severity.WARNING,
        advice="put a load balancer in front of its targets, with the gateway's routes",
    ),
    "lattice-quota": Code(
        number="MESH255",
        title="more than VPC Lattice's quota",
        severity=Severity.WARNING,
        advice="ask AWS for a higher quota before the move, or split what is too much",
    ),
    "lattice-unknown-role": Code(
        number="MESH256",
        title="a caller whose IAM role is not known: policies name a placeholder",
        severity=Severity.WARNING,
        advice="give the role as which the caller's compute runs, with --param",
    ),
    "lattice-no-caller": Code(
        number="MESH257",
        title="a service that nobody may call: without a policy VPC Lattice refuses everyone",
        severity=Severity.INFO,
        advice="list it among the backends of those that call it; a gateway's load balancer calls "
        "the targets",
    ),
    "lattice-address-changed": Code(
        number="MESH258",
        title="an address that callers must change",
        severity=Severity.INFO,
        advice="change the address in the callers' configuration as part of the move",
    ),
    "lattice-tcp-open": Code(
        number="MESH259",
        title="a TCP service: VPC Lattice's policies do not reach it",
        severity=Severity.WARNING,
        advice="close its port to all others with the resource gateway's security group",
    ),
}
