"""Supplied identities at work: real TLS 1.3 handshakes, also after eight at once and after kills.

Which names a peer accepts is checked by Envoy, so that refusal is tested where Envoy is started.
"""

import json
import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from meshml_dbx.trust import IdentityFiles, describe, supply_identity

HERE = Path(__file__).parent

# OpenSSL's words for an authority that is not trusted, by how much of the chain it was shown.
FOREIGN = {
    "unable to get local issuer certificate",
    "self-signed certificate in certificate chain",
    "certificate signature failure",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side of a handshake came to: the peer's name, or why it went away."""

    peer: str = ""
    refusal: str = ""


def context(purpose: int, *, identity: IdentityFiles | None, trust: Path) -> ssl.SSLContext:
    """One side's settings: as strict as the standard library can be, names left to Envoy."""
    made = ssl.SSLContext(purpose)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(trust)
    if identity:
        made.load_cert_chain(identity.certificate_chain, identity.private_key)
    return made


def serving(identity: IdentityFiles) -> ssl.SSLContext:
    """A server that shows this identity and wants one of the same authority."""
    return context(ssl.PROTOCOL_TLS_SERVER, identity=identity, trust=identity.authority)


def calling(identity: IdentityFiles, *, trust: Path | None = None) -> ssl.SSLContext:
    """A client that shows this identity."""
    trust = trust or identity.authority
    return context(ssl.PROTOCOL_TLS_CLIENT, identity=identity, trust=trust)


def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Side, Side]:
    """Let the two talk over a socket: what the server came to, and what the client came to."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(20)
        served = pool.submit(lambda: _talk(lambda: _serve(listener, server)))
        called = _talk(lambda: _call(listener.getsockname(), client))
        return served.result(), called


def _talk(side: Callable[[], str]) -> Side:
    try:
        return Side(peer=side())
    except ssl.SSLCertVerificationError as error:
        return Side(refusal=error.verify_message)
    except ssl.SSLError as error:
        return Side(refusal=error.reason)
    except OSError as error:
        return Side(refusal=type(error).__name__)


def _serve(listener: socket.socket, settings: ssl.SSLContext) -> str:
    plain, _ = listener.accept()
    plain.settimeout(20)
    with settings.wrap_socket(plain, server_side=True) as tls:
        tls.sendall(b"served")
        return _peer(tls)


def _call(address: tuple[str, int], settings: ssl.SSLContext) -> str:
    plain = socket.create_connection(address, timeout=20)
    with settings.wrap_socket(plain) as tls:
        if tls.recv(6) != b"served":
            raise ConnectionResetError
        return _peer(tls)


def _peer(tls: ssl.SSLSocket) -> str:
    certificate = tls.getpeercert()
    assert certificate
    return dict(certificate["subjectAltName"])["URI"]  # type: ignore[arg-type]  # typeshed's union


def supply(store: Path, name: str, *, mesh_name: str = "ml", days: float = 0) -> IdentityFiles:
    """An identity as it is supplied so many days from now."""
    now = datetime.now(UTC) + timedelta(days=days)
    return supply_identity(store, mesh_name=mesh_name, name=name, now=now)


def test_two_identities_of_a_mesh_know_each_other_by_name(tmp_path: Path) -> None:
    """Both sides of a handshake see the other's SPIFFE id."""
    server, client = supply(tmp_path / "trust", "labels"), supply(tmp_path / "trust", "training")
    expected = (Side(peer="spiffe://ml/training"), Side(peer="spiffe://ml/labels"))
    assert expected == meet(serving(server), calling(client))


def test_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    """Who shows no certificate is not served."""
    server = supply(tmp_path / "trust", "labels")
    nobody = context(ssl.PROTOCOL_TLS_CLIENT, identity=None, trust=server.authority)
    served, called = meet(serving(server), nobody)
    assert served == Side(refusal="PEER_DID_NOT_RETURN_A_CERTIFICATE")
    assert not called.peer


@pytest.mark.parametrize(("folder", "mesh_name"), [("trust", "other"), ("trust-2", "ml")])
def test_a_client_of_a_foreign_authority_is_refused(
    tmp_path: Path, folder: str, mesh_name: str
) -> None:
    """Another mesh's identity, or one of the same names from another store, is not served."""
    server = supply(tmp_path / "trust", "labels")
    foreign = supply(tmp_path / folder, "training", mesh_name=mesh_name)
    served, called = meet(serving(server), calling(foreign, trust=server.authority))
    assert served.refusal in FOREIGN
    assert not called.peer


def test_a_client_with_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    """An identity is not served once its seven days are over."""
    expired = supply(tmp_path / "trust", "training", days=-7.01)
    server = supply(tmp_path / "trust", "labels")
    served, called = meet(serving(server), calling(expired))
    assert served == Side(refusal="certificate has expired")
    assert not called.peer


def test_a_client_refuses_a_server_of_a_foreign_authority(tmp_path: Path) -> None:
    """Trust goes both ways: the client does not speak to a server it cannot place."""
    server = supply(tmp_path / "trust", "labels", mesh_name="other")
    client = supply(tmp_path / "trust", "training")
    _, called = meet(serving(server), calling(client))
    assert called.refusal in FOREIGN


def test_identities_from_before_and_after_a_change_of_authority_meet(tmp_path: Path) -> None:
    """A renewed authority does not part those whom it finds from those whom it issues."""
    store = tmp_path / "trust"
    supply(store, "first", days=-360)
    before = supply(store, "labels", days=-3)
    after = supply(store, "training")
    issuers = {facts.serial for facts in describe(store, "ml") if facts.is_authority}
    assert len(issuers) == 2
    assert _issuer_key(before) != _issuer_key(after)
    assert meet(serving(before), calling(after))[0] == Side(peer="spiffe://ml/training")
    assert meet(serving(after), calling(before))[0] == Side(peer="spiffe://ml/labels")


def _issuer_key(identity: IdentityFiles) -> bytes | None:
    certificate = x509.load_pem_x509_certificate(identity.certificate_chain.read_bytes())
    extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return extension.value.key_identifier


def test_eight_processes_at_once_share_one_authority(tmp_path: Path) -> None:
    """Whoever comes first makes the authority; all others find it, and nothing is issued twice."""
    store = tmp_path / "trust"
    names = [f"member-{number}" for number in range(8)]
    processes = [_start("supplying.py", store, "once", name, "shared") for name in names]
    for process in processes:
        assert _line(process) == "ready"
    for process in processes:
        _tell(process, "go")
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]

    authorities = [facts for facts in describe(store, "ml") if facts.is_authority]
    assert len(authorities) == 1
    assert len({answer["shared"] for answer in answers}) == 1
    files = [supply(store, name) for name in names]
    serials = {facts.subject_alternative_names: facts.serial for facts in describe(store, "ml")}
    for name, answer in zip(names, answers, strict=True):
        assert serials[(f"spiffe://ml/{name}",)] == answer[name]
    for server, client in zip(files, [*files[1:], files[0]], strict=True):
        expected = (Side(peer=client.spiffe_id), Side(peer=server.spiffe_id))
        assert meet(serving(server), calling(client)) == expected


@pytest.mark.parametrize("days", [0, 300], ids=["first use", "renewal"])
def test_a_kill_at_any_touch_of_the_disk_leaves_a_usable_store(tmp_path: Path, days: int) -> None:
    """Whatever step a process dies at, the next one supplies an identity that works."""
    script = [sys.executable, str(HERE / "dying.py"), str(tmp_path), str(days)]
    killed = int(subprocess.run(script, check=True, capture_output=True, timeout=120).stdout)
    assert killed > 20
    for step in range(1, killed + 1):
        files = supply(tmp_path / str(step), "labels")
        expected = (Side(peer="spiffe://ml/labels"), Side(peer="spiffe://ml/labels"))
        assert meet(serving(files), calling(files)) == expected, f"killed at step {step}"
        assert len(describe(tmp_path / str(step), "ml")) == (3 if days else 2)


def test_kills_at_random_moments_leave_a_usable_store(tmp_path: Path) -> None:
    """Two processes that issue without end, killed fifteen times, leave nothing half done."""
    store, moments = tmp_path / "trust", random.Random(15)
    for _ in range(15):
        processes = [_start("supplying.py", store, "forever", "a", "b") for _ in range(2)]
        for process in processes:
            assert _line(process) == "ready"
        time.sleep(moments.uniform(0.02, 0.2))
        for process in processes:
            process.kill()
            assert process.wait() == -9, process.communicate()
        server, client = supply(store, "a"), supply(store, "b")
        expected = (Side(peer="spiffe://ml/b"), Side(peer="spiffe://ml/a"))
        assert meet(serving(server), calling(client)) == expected
    assert len([facts for facts in describe(store, "ml") if facts.is_authority]) == 1


def _start(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()
