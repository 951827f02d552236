"""Certificates of the user's own, from files, and who is refused at a node's socket."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.small_mesh import MESH, SmallMesh, envoys_below, make_mesh
from tests.small_pki import Authority, Pair

pytestmark = pytest.mark.envoy

JOB, LABELS = "spiffe://corp/job", "spiffe://corp/labels"
REFUSAL_S = 3.0
CALL = "import urllib.request as r; print(r.urlopen('http://labels.small.local/status/200').status)"


def file_mesh_text() -> str:
    """The small mesh with files of the user's own wherever it had supplied identities."""
    text = MESH
    for name in ("job", "labels", "relay"):
        files = f"{{file: {{certificateChain: pki/{name}.crt, privateKey: pki/{name}.key}}}}"
        text = text.replace(f"{{sds: {{secretName: {name}}}}}", files)
    text = text.replace("{sds: {secretName: small}}", "{file: {certificateChain: pki/ca.crt}}")
    return text.replace("spiffe://small/", "spiffe://corp/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corp:
    """A mesh whose members have certificates of a company's authority."""

    mesh: SmallMesh
    authority: Authority

    @property
    def pki(self) -> Path:
        """Where the certificates are; the mesh file says it relative to itself."""
        return self.mesh.folder / "pki"


def make_corp(folder: Path) -> Corp:
    """The mesh and its certificates; the servers' also name the host by which they are found."""
    mesh = make_mesh(folder, file_mesh_text())
    authority = Authority(folder / "pki", "corp")
    authority.issue("job", JOB)
    authority.issue("labels", LABELS, "localhost")
    authority.issue("relay", "spiffe://corp/relay", "localhost")
    return Corp(mesh=mesh, authority=authority)


@pytest.fixture
def corp(tmp_path: Path) -> Corp:
    """A company's mesh, with nothing running yet."""
    return make_corp(tmp_path)


@pytest.fixture(scope="module")
def serving_corp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corp]:
    """A company's mesh at work: labels serves whom it names, relay whom its authority knows."""
    corp = make_corp(tmp_path_factory.mktemp("corp"))
    with corp.mesh.serve("labels"), corp.mesh.serve("relay"):
        yield corp


def test_files_of_the_users_own_work(serving_corp: Corp) -> None:
    """Both ends show what the files say, and nothing is issued beside them."""
    mesh = serving_corp.mesh
    done = mesh.python(CALL)
    (call,) = mesh.calls(done.sidecar_id)
    assert (done.out, call["upstream_peer"]) == ("200\n", LABELS)
    assert not (mesh.state / "trust").exists()


def test_paths_are_relative_to_the_mesh_file(serving_corp: Corp, tmp_path: Path) -> None:
    """A command works from any folder."""
    mesh = serving_corp.mesh
    elsewhere = SmallMesh(folder=tmp_path, ports=mesh.ports)
    client = ("--mesh", str(mesh.file), "--client", "job")
    done = elsewhere.meshml("run", *client, "--", "python", "-c", CALL)
    assert (done.status, done.out) == (0, "200\n")


# --- files that cannot work -------------------------------------------------------------------


def remove(corp: Corp) -> None:
    """The key is gone."""
    (corp.pki / "job.key").unlink()


def expire(corp: Corp) -> None:
    """The certificate's last day was yesterday."""
    corp.authority.issue("job", JOB, since_days=-3, until_days=-1)


def mix(corp: Corp) -> None:
    """The key is another certificate's."""
    (corp.pki / "job.key").write_bytes((corp.pki / "labels.key").read_bytes())


def spoil(corp: Corp) -> None:
    """The certificate is no PEM."""
    (corp.pki / "job.crt").write_bytes(b"\x30\x82\x01\x0a")


def lose_authority(corp: Corp) -> None:
    """The authority's file is gone."""
    corp.authority.file.unlink()


BROKEN = {
    "missing": (remove, "the private key {pki}/job.key does not exist"),
    "expired": (expire, "the certificate {pki}/job.crt (CN=job) expired on"),
    "mismatched": (mix, "the private key {pki}/job.key does not belong to the certificate"),
    "no PEM": (spoil, "the certificate {pki}/job.crt is not PEM"),
    "no authority": (lose_authority, "the certificate {pki}/ca.crt does not exist"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_work_are_refused_at_once(corp: Corp, name: str) -> None:
    """One message with file and next step, status 3; neither program nor Envoy was started."""
    break_it, message = BROKEN[name]
    break_it(corp)
    done = corp.mesh.run("touch", "started")
    assert done.status == 3
    first, *rest = done.err.splitlines()
    assert first.startswith(f"error: {message.format(pki=corp.pki)}")
    assert [line[:8] for line in rest] == ["  next: "]
    assert not (corp.mesh.folder / "started").exists()
    assert envoys_below(corp.mesh.folder) == []


# --- at the socket ----------------------------------------------------------------------------


def ask(corp: Corp, pair: Pair | None, *, node: str = "labels") -> str:
    """What a caller with this certificate, or none, reads from a node's own port.

    Under TLS 1.3 a refusal comes after the caller's handshake, so it is waited for before speaking.
    """
    context = ssl.create_default_context(cafile=str(corp.authority.file))
    if pair:
        context.load_cert_chain(pair.chain, pair.key)
    port = corp.mesh.ports[node]
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=REFUSAL_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            with suppress(TimeoutError):
                return repr(encrypted.recv(1))
            encrypted.sendall(b"GET /status/200 HTTP/1.1\r\nhost: labels\r\n\r\n")
            return encrypted.recv(15).decode()
    except ssl.SSLError as error:
        return str(error.reason)


def test_the_nodes_port_serves_whom_it_names(serving_corp: Corp) -> None:
    """The control: with the right certificate, the socket answers."""
    pki = serving_corp.pki
    job = Pair(chain=pki / "job.crt", key=pki / "job.key")
    assert ask(serving_corp, job) == "HTTP/1.1 200 OK"


def test_a_node_without_a_list_serves_whom_its_authority_knows(serving_corp: Corp) -> None:
    """Any name will do where none is asked for."""
    other = serving_corp.authority.issue("anyone", "spiffe://corp/anyone")
    assert ask(serving_corp, other, node="relay") == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("node", ["labels", "relay"])
def test_the_nodes_port_refuses_a_caller_without_certificate(serving_corp: Corp, node: str) -> None:
    """With or without a list of names, the connection ends with an alert."""
    assert ask(serving_corp, None, node=node) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


@pytest.mark.parametrize(
    ("authority", "alert"),
    [("elsewhere", "TLSV1_ALERT_UNKNOWN_CA"), ("corp", "TLSV1_ALERT_DECRYPT_ERROR")],
)
def test_the_nodes_port_refuses_a_foreign_authority(
    serving_corp: Corp, tmp_path: Path, authority: str, alert: str
) -> None:
    """The right name is worth nothing from another authority, even one that has ours' name."""
    foreign = Authority(tmp_path, authority).issue("job", JOB)
    assert ask(serving_corp, foreign) == alert


def test_the_nodes_port_refuses_an_expired_certificate(serving_corp: Corp) -> None:
    """The right name of the right authority, a day late."""
    late = serving_corp.authority.issue("late", JOB, since_days=-3, until_days=-1)
    assert ask(serving_corp, late) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"


def test_the_nodes_port_refuses_another_name(serving_corp: Corp) -> None:
    """A certificate of the same company that the node's list leaves out."""
    other = serving_corp.authority.issue("other", "spiffe://corp/other")
    assert ask(serving_corp, other) == "SSLV3_ALERT_CERTIFICATE_UNKNOWN"


def test_the_nodes_port_refuses_plain_text(serving_corp: Corp) -> None:
    """STRICT serves nobody without TLS."""
    port = serving_corp.mesh.ports["labels"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with suppress(OSError):
            plain.sendall(b"GET / HTTP/1.1\r\nhost: labels\r\n\r\n")
        with suppress(ConnectionResetError):
            assert plain.recv(100) == b""
