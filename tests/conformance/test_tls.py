"""Who is served, and by whom: certificates of both ends, names, and modes of a listener.

A caller that is refused gets 503 and reaches no program; one that is served is known by its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshml_dbx.trust import supply_identity
from tests.conformance.subject import Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http_program

SHOWS = (
    "certificate: {{sds: {{secretName: {}}}}}, validation: {{trust: {{sds: {{secretName: ml}}}}}}"
)
EXPECTS = (
    "certificate: {{sds: {{secretName: friend}}}}, "
    "validation: {{trust: {{sds: {{secretName: ml}}}}, "
    'subjectAlternativeNames: {{match: {{exact: ["{}"]}}}}}}'
)
CALLERS = {
    "friend": "backendDefaults: {clientPolicy: {tls: {" + SHOWS.format("friend") + "}}}",
    "stranger": "backendDefaults: {clientPolicy: {tls: {" + SHOWS.format("stranger") + "}}}",
    "nameless": (
        "backendDefaults: {clientPolicy: {tls: {validation: {trust: {sds: {secretName: ml}}}}}}"
    ),
    "careless": "",
    "relaxed": (
        "backendDefaults: {clientPolicy: {tls: {enforce: false, " + SHOWS.format("friend") + "}}}"
    ),
    "expecting": (
        "backendDefaults: {clientPolicy: {tls: {" + EXPECTS.format("spiffe://ml/closed") + "}}}"
    ),
    "suspicious": (
        "backendDefaults: {clientPolicy: {tls: {" + EXPECTS.format("spiffe://ml/other") + "}}}"
    ),
    "at-ports": (
        "backendDefaults: {clientPolicy: {tls: {ports: [1], " + SHOWS.format("friend") + "}}}"
    ),
    "filed": (
        "backendDefaults: {clientPolicy: {tls: {"
        "certificate: {file: {certificateChain: FOLDER/chain.pem, privateKey: FOLDER/key.pem}}, "
        "validation: {trust: {file: {certificateChain: FOLDER/authority.pem}}, "
        'subjectAlternativeNames: {match: {exact: ["spiffe://ml/closed"]}}}}}}'
    ),
}
LISTENERS = {
    "closed": (
        "tls: {mode: STRICT, certificate: {sds: {secretName: closed}}, "
        "validation: {trust: {sds: {secretName: ml}}, "
        'subjectAlternativeNames: {match: {exact: ["spiffe://ml/friend"]}}}}'
    ),
    "members": (
        "tls: {mode: STRICT, certificate: {sds: {secretName: members}}, "
        "validation: {trust: {sds: {secretName: ml}}}}"
    ),
    "one-way": "tls: {mode: STRICT, certificate: {sds: {secretName: one-way}}}",
    "lenient": (
        "tls: {mode: PERMISSIVE, certificate: {sds: {secretName: lenient}}, "
        "validation: {trust: {sds: {secretName: ml}}}}"
    ),
    "disabled": "tls: {mode: DISABLED, certificate: {sds: {secretName: disabled}}}",
    "plain": "",
}


def service(node: str) -> str:
    """The virtual service that a node provides."""
    return f"{node}.ml.local"


def mesh_text(folder: Path) -> str:
    """A client of each kind, a node of each kind; one client has a policy for one backend alone."""
    backends = ", ".join(
        f"{{virtualService: {{virtualServiceName: {service(it)}}}}}" for it in LISTENERS
    )
    text = "mesh: {meshName: ml}\nclients:"
    for name, policy in CALLERS.items():
        spec = f"{{backends: [{backends}], {policy}}}"
        text += f"\n- {{clientName: {name}, role: training, spec: {spec}}}"
    text += PER_BACKEND + "virtualNodes:"
    for name, tls in LISTENERS.items():
        mapping = f"portMapping: {{port: {name.replace('-', '').upper()}_PORT, protocol: http}}"
        text += f"""
- virtualNodeName: {name}
  spec:
    listeners: [{{{mapping}, {tls}}}]
    serviceDiscovery: {{dns: {{hostname: localhost}}}}"""
    text += "\nvirtualServices:"
    for name in LISTENERS:
        provider = f"{{provider: {{virtualNode: {{virtualNodeName: {name}}}}}}}"
        text += f"\n- {{virtualServiceName: {service(name)}, spec: {provider}}}"
    return text.replace("FOLDER", str(folder)).replace(", ]", "]").replace(", }", "}")


PER_BACKEND = f"""
- clientName: by-backend
  role: training
  spec:
    backends:
    - virtualService:
        virtualServiceName: closed.ml.local
        clientPolicy: {{tls: {{{SHOWS.format("friend")}}}}}
    - virtualService: {{virtualServiceName: members.ml.local}}
    backendDefaults: {{clientPolicy: {{tls: {{{SHOWS.format("stranger")}}}}}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The clients by name, and the one program behind all nodes."""

    members: Mapping[str, Transport]
    program: Upstream

    def served(self, member: str, node: str) -> str | None:
        """The name by which the program knows its caller, "nobody", or None if it was refused."""
        asked = ask(f"http://{service(node)}/x")
        reply = self.members[member].send(asked)
        seen = self.program.seen_of(asked)
        assert (reply.status, len(seen)) in {(200, 1), (503, 0)}
        if not seen:
            return None
        told = dict(
            part.partition("=")[::2]
            for part in seen[0].headers.get("x-forwarded-client-cert", "").split(";")
        )
        return told.get("URI", "nobody")

    def flags(self, member: str, node: str) -> str:
        """Why a call ended."""
        return self.members[member].send(ask(f"http://{service(node)}/x")).flags


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every client and every node."""
    need(subject, "http", "tls")
    folder = tmp_path_factory.mktemp("tls")
    files = supply_identity(folder / "trust", mesh_name="ml", name="friend", now=datetime.now(UTC))
    for name, path in {
        "chain": files.certificate_chain,
        "key": files.private_key,
        "authority": files.authority,
    }.items():
        (folder / f"{name}.pem").write_bytes(Path(path).read_bytes())
    with http_program("p") as program:
        behind = dict.fromkeys(LISTENERS, program.port)
        with subject.at_work(folder, mesh_text(folder), behind=behind) as members:
            yield World(members=members, program=program)


FRIEND, STRANGER, NOBODY, REFUSED = "spiffe://ml/friend", "spiffe://ml/stranger", "nobody", None


# --- whom a listener serves -------------------------------------------------------------------


def test_mtls_accepted(world: World) -> None:
    """STRICT with validation: a caller with a certificate of a listed name is served."""
    assert world.served("friend", "closed") == FRIEND


@pytest.mark.parametrize("member", ["stranger", "nameless", "careless"])
def test_mtls_refused(world: World, member: str) -> None:
    """Another name, no certificate, no policy at all: 503, and the program learns nothing."""
    assert world.served(member, "closed") is REFUSED
    assert world.flags(member, "closed") == "UC"


def test_without_a_list_of_names_every_member_is_served(world: World) -> None:
    """validation without subjectAlternativeNames: the caller's name is not checked."""
    found = [world.served(it, "members") for it in ("friend", "stranger", "nameless")]
    assert found == [FRIEND, STRANGER, REFUSED]


def test_strict_without_validation(world: World) -> None:
    """STRICT alone: TLS for everybody, and nobody is asked who he is."""
    found = [world.served(it, "one-way") for it in ("friend", "nameless", "careless")]
    assert found == [NOBODY] * 3


def test_permissive(world: World) -> None:
    """PERMISSIVE: callers in plain text are served; those with TLS must still be known."""
    found = [world.served(it, "lenient") for it in ("friend", "careless", "nameless")]
    assert found == [FRIEND, NOBODY, REFUSED]


@pytest.mark.parametrize("node", ["disabled", "plain"])
def test_disabled(world: World, node: str) -> None:
    """DISABLED is as no tls at all: plain text alone, so that a policy that enforces fails."""
    found = [world.served(it, node) for it in ("careless", "friend")]
    assert found == [NOBODY, REFUSED]


# --- whom a caller believes -------------------------------------------------------------------


def test_san_match(world: World) -> None:
    """subjectAlternativeNames of a client policy: the server of that name is called."""
    assert world.served("expecting", "closed") == FRIEND


def test_san_mismatch(world: World) -> None:
    """A server of any other name is not: the call ends before anything is said."""
    assert world.served("suspicious", "closed") is REFUSED
    assert world.flags("suspicious", "closed") == "UF"


@pytest.mark.parametrize("node", ["disabled", "plain"])
def test_enforce_false(world: World, node: str) -> None:
    """enforce false: TLS where the listener has it, plain text where it has none."""
    found = [world.served("relaxed", it) for it in ("closed", node)]
    assert found == [FRIEND, NOBODY]


def test_ports_of_a_policy(world: World) -> None:
    """ports: a policy holds at these ports of a node alone."""
    found = [world.served("at-ports", it) for it in ("closed", "plain")]
    assert found == [REFUSED, NOBODY]


def test_policy_of_a_backend(world: World) -> None:
    """A backend's own clientPolicy replaces the default of all backends."""
    found = [world.served("by-backend", it) for it in ("closed", "members")]
    assert found == [FRIEND, STRANGER]


def test_certificates_in_files(world: World) -> None:
    """file certificates and trust work as those that are supplied."""
    assert world.served("filed", "closed") == FRIEND
