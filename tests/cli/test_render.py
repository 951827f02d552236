"""``meshml render``: a folder that a stock Envoy is started from, which is then a member."""

import json
import os
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshml_dbx.sidecar import adopt
from meshml_dbx.traffic.log_folder import StateFolder
from tests.desk import store_run
from tests.free_ports import free_port
from tests.render_lab import (
    call,
    lines_below,
    plain_envoy,
    program,
    started,
    variables_in,
)
from tests.small_mesh import LABELS, SmallMesh, make_mesh

PEM_KEY = "PRIVATE KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The node ``labels`` and the client ``job``, each rendered into a folder."""

    mesh: SmallMesh
    app: int
    egress: int

    @property
    def labels(self) -> Path:
        """The node's folder."""
        return self.mesh.folder / "labels"

    @property
    def job(self) -> Path:
        """The client's folder."""
        return self.mesh.folder / "job"

    @property
    def proxy(self) -> str:
        """The client's proxy, with its token."""
        return variables_in(self.job)["HTTP_PROXY"]

    def render(self, *more: str) -> None:
        """Render both."""
        node = ("--node", "labels", "--app-port", str(self.app), "--out", "labels")
        client = ("--client", "job", "--egress-port", str(self.egress), "--out", "job")
        for member in (node, client):
            done = self.mesh.meshml("render", *member, "--as", "envoy", *more)
            assert done.status == 0, done.err


def make_pair(folder: Path) -> Pair:
    """Both folders."""
    pair = Pair(mesh=make_mesh(folder), app=free_port(), egress=free_port())
    pair.render()
    return pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Two rendered members, with nothing running."""
    return make_pair(tmp_path)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two rendered members behind plain Envoys, started as their READMEs say."""
    pair = make_pair(tmp_path_factory.mktemp("pair"))
    node = plain_envoy(pair.labels)
    with (
        program(pair.app),
        started(node, pair.labels, pair.mesh.ports["labels"]),
        started(plain_envoy(pair.job), pair.job, pair.egress),
    ):
        yield pair


# --- traffic ----------------------------------------------------------------------------------


@pytest.mark.envoy
def test_two_rendered_members_speak_mutual_tls(serving: Pair) -> None:
    """A call goes through both plain Envoys, and each knows the other by its certificate."""
    assert call(LABELS, serving.proxy)[0] == 200
    client = await_lines(serving.job, client="job", observer="egress")[-1]
    server = await_lines(serving.labels, virtual_node="labels", observer="ingress")[-1]
    assert (client["upstream_peer"], client["route"]) == ("spiffe://small/labels", "by-day")
    assert server["downstream_peer"] == "spiffe://small/job"
    assert client["request_id"] == server["request_id"]


@pytest.mark.envoy
def test_the_proxy_of_a_rendered_client_asks_for_its_token(serving: Pair) -> None:
    """On a machine of several, only who may read the folder speaks as the client."""
    assert call(LABELS, f"http://127.0.0.1:{serving.egress}")[0] == 407


@pytest.mark.envoy
def test_why_reads_the_log_of_a_rendered_client(serving: Pair, mlflow_store: Path) -> None:
    """A run whose program had the folder's variables is joined with its calls."""
    variables = variables_in(serving.job)
    began = time.time_ns() // 1000
    before = len(lines_below(serving.job / "logs", _type="DownstreamEnd"))
    for _ in range(3):
        assert call(LABELS, variables["HTTP_PROXY"])[0] == 200
    await_lines(serving.job, count=before + 3)
    folder = mlflow_store.parent
    store_run(folder, "train", began, 20, variables["MESHML_PROCESS_ID"])
    where = ("--logs", str(serving.job / "logs"), "--tracking", f"sqlite:///{mlflow_store}")
    done = serving.mesh.meshml("why", "train", "--live", "--json", *where)
    assert done.status == 0, done.err
    assert json.loads(done.out)["ledger"]["rows"] == 3


@pytest.mark.envoy
def test_ingest_leaves_the_log_of_a_running_envoy_alone(serving: Pair) -> None:
    """The lock that the README's command holds tells that somebody writes there, however quiet."""
    assert call(LABELS, serving.proxy)[0] == 200
    await_lines(serving.job)
    adopted = adopt(StateFolder(root=serving.mesh.state), serving.job / "logs", quiet_s=0)
    assert adopted == ()


@pytest.mark.envoy
def test_the_script_closes_files_that_never_change(pair: Pair) -> None:
    """While Envoy serves, finished files come under closed/, and at the end all calls are there."""
    with started(["sh", "start.sh"], pair.job, pair.egress, MESHML_CLOSE_S="1") as script:
        sent = 0
        deadline = time.monotonic() + 20
        while len(closed(pair.job)) < 2:
            call(LABELS, pair.proxy)
            sent += 1
            assert time.monotonic() < deadline
        sizes = {path: path.stat().st_size for path in closed(pair.job)}
        script.terminate()
        assert script.wait(20) == 0
    ends = lines_below(pair.job / "logs", _type="DownstreamEnd")
    assert len(ends) == sent
    assert {path: path.stat().st_size for path in sizes} == sizes
    assert [*(pair.job / "logs").glob("*/live/*.jsonl")] == []


@pytest.mark.envoy
def test_a_second_envoy_does_not_write_the_same_log(pair: Pair) -> None:
    """Whoever starts the same folder twice is told."""
    with started(["sh", "start.sh"], pair.job, pair.egress):
        again = subprocess.run(
            ["sh", "start.sh"], cwd=pair.job, capture_output=True, timeout=20, check=False
        )
    assert (again.returncode, b"another Envoy writes to" in again.stderr) == (1, True)


@pytest.mark.envoy
def test_a_running_envoy_takes_a_renewed_certificate_up(pair: Pair) -> None:
    """Rendered again after a renewal, a running Envoy shows the new certificate."""
    commands = (plain_envoy(pair.labels), plain_envoy(pair.job))
    with (
        program(pair.app),
        started(commands[0], pair.labels, pair.mesh.ports["labels"]),
        started(commands[1], pair.job, pair.egress),
    ):
        before = served_certificate(pair)
        for folder in (pair.mesh.state / "trust").glob("*/identities/labels-*"):
            folder.rename(folder.with_name("gone"))
        pair.render("--force")
        deadline = time.monotonic() + 10
        while served_certificate(pair) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert call(LABELS, pair.proxy)[0] == 200


def served_certificate(pair: Pair) -> str:
    """The certificate that the node shows whoever knocks."""
    return ssl.get_server_certificate(("127.0.0.1", pair.mesh.ports["labels"]))


def closed(folder: Path) -> list[Path]:
    """The finished files of a rendered member."""
    return sorted((folder / "logs").glob("*/closed/*.jsonl"))


def await_lines(folder: Path, *, count: int = 1, **values: object) -> list[dict[str, object]]:
    """The ends of calls with these values, once there are so many."""
    deadline = time.monotonic() + 5
    while True:
        found = lines_below(folder / "logs", _type="DownstreamEnd", **values)
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


# --- the folder -------------------------------------------------------------------------------


def test_only_the_owner_reads_a_rendered_folder(pair: Pair) -> None:
    """Every file is the owner's alone, keys and token among them."""
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in files_of(pair.job)}
    assert (modes, stat.S_IMODE(pair.job.stat().st_mode)) == ({0o600}, 0o700)


def test_rendering_again_writes_nothing(pair: Pair) -> None:
    """The same mesh and certificates are the same files, names and token included."""
    before = {path: path.stat().st_mtime_ns for path in files_of(pair.job)}
    pair.render("--force")
    assert {path: path.stat().st_mtime_ns for path in files_of(pair.job)} == before


def test_a_folder_that_holds_something_is_refused(pair: Pair) -> None:
    """Without --force nothing is replaced."""
    done = pair.mesh.meshml("render", "--client", "job", "--as", "envoy", "--out", "job")
    assert (done.status, "job is not empty" in done.err) == (3, True)


def test_force_does_not_touch_the_files_of_others(tmp_path: Path) -> None:
    """A file that render did not write stays, and is named."""
    mesh = make_mesh(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    render = ("render", "--client", "job", "--as", "envoy", "--out", "out", "--force")
    done = mesh.meshml(*render)
    assert (done.status, "README.md was not written by meshml render" in done.err) == (3, True)
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


def test_force_removes_what_is_no_longer_part_of_it(pair: Pair) -> None:
    """Another form replaces the files of the first, and leaves what a person put beside them."""
    (pair.job / "notes.txt").write_text("mine")
    form = ("--as", "kubernetes", "--app-image", "train:1", "--force")
    done = pair.mesh.meshml("render", "--client", "job", "--out", "job", *form)
    assert done.status == 0, done.err
    names = {path.relative_to(pair.job).as_posix() for path in files_of(pair.job)}
    assert names == {
        ".meshml-render.json",
        "README.md",
        "config.yaml",
        "notes.txt",
        "secret.sh",
        "workload.yaml",
    }


@pytest.mark.parametrize("form", ["compose", "ecs", "kubernetes"])
def test_manifests_hold_no_private_key(mesh: SmallMesh, form: str) -> None:
    """What is applied, registered or committed has no key and no token in it."""
    done = mesh.meshml(
        *("render", "--node", "relay", "--app-port", "9003", "--as", form, "--out", "out")
    )
    assert done.status == 0, done.err
    keys = [path for path in files_of(mesh.folder / "out") if PEM_KEY in path.read_text()]
    assert {path.parent.parent.name for path in keys} == (
        {"certificates"} if form == "compose" else set()
    )


def test_a_secret_has_keys_only_where_that_is_asked_for(mesh: SmallMesh) -> None:
    """--inline-secrets writes the Secret with its content, and no script."""
    render = ("render", "--node", "relay", "--app-port", "9003", "--as", "kubernetes")
    assert mesh.meshml(*render, "--out", "out", "--inline-secrets").status == 0
    out = mesh.folder / "out"
    keys = [path.name for path in files_of(out) if PEM_KEY in path.read_text()]
    assert (keys, (out / "secret.sh").exists()) == (["secret.yaml"], False)


def files_of(folder: Path) -> list[Path]:
    """Every file of a folder, each once."""
    return [
        Path(root) / name
        for root, _, names in os.walk(folder)
        for name in names
        if not (Path(root) / name).is_symlink() and "logs" not in Path(root).parts
    ]


@pytest.mark.parametrize("form", ["envoy", "kubernetes"])
def test_a_containers_own_certificates_are_taken_as_the_file_names_them(
    mesh: SmallMesh, form: str
) -> None:
    """Whole paths of another machine are kept, and said; only copying them is refused."""
    own = "{file: {certificateChain: /keys/job.pem, privateKey: /keys/job-key.pem}}"
    mesh.change("certificate: {sds: {secretName: job}}", f"certificate: {own}")
    wanted = ("render", "--client", "job", "--as", form, "--out", "out")
    how = ("--certificates", "mount") if form == "envoy" else ()
    done = mesh.meshml(*wanted, *how)
    assert done.status == 0, done.err
    assert "Envoy will read /keys/job-key.pem, which is not here: mount it there" in done.err
    written = "".join(
        path.read_text() for path in (mesh.folder / "out").rglob("*") if path.is_file()
    )
    assert "/keys/job-key.pem" in written


def test_certificates_that_are_not_here_cannot_be_copied(mesh: SmallMesh) -> None:
    """Copying needs the file: the error names it."""
    own = "{file: {certificateChain: /keys/job.pem, privateKey: /keys/job-key.pem}}"
    mesh.change("certificate: {sds: {secretName: job}}", f"certificate: {own}")
    done = mesh.meshml("render", "--client", "job", "--as", "envoy", "--out", "out")
    assert (done.status, "/keys/job.pem" in done.err) == (3, True)


@pytest.mark.envoy
def test_mounted_certificates_stay_where_they_are_kept(mesh: SmallMesh) -> None:
    """Nothing is copied: Envoy reads them in the trust store, whoever renews them there."""
    app, out = free_port(), mesh.folder / "out"
    node = ("--node", "labels", "--app-port", str(app), "--as", "envoy", "--out", "out")
    done = mesh.meshml("render", *node, "--certificates", "mount", "--json")
    assert done.status == 0, done.err
    assert [name for name in json.loads(done.out)["files"] if "certificates/" in name] == []
    port = mesh.ports["labels"]
    with started(plain_envoy(out), out, port):
        shown = ssl.get_server_certificate(("127.0.0.1", port))
    (kept,) = (mesh.state / "trust").glob("*/identities/labels-*/tls.crt")
    assert shown == kept.read_text()


# --- what cannot be rendered ------------------------------------------------------------------

REFUSED = {
    "an unknown name": (("--node", "label", "--app-port", "1"), "labels"),
    "no application's port": (("--node", "labels"), "give --app-port PORT"),
    "an application's port of a client": (("--client", "job", "--app-port", "1"), "has no port"),
    "two members": (("--client", "job", "--node", "labels"), "give one of --node, --client"),
    "a port given twice": (("--client", "job", "--egress-port", "15021"), "would be that of"),
    "a secret that is copied": (("--client", "job", "--certificates", "copy"), "by copy"),
    "no S3": (("--client", "job", "--logs-to", "logs"), "such as s3://bucket/prefix"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_rendered_is_refused(mesh: SmallMesh, case: str) -> None:
    """The message says what to do, and no folder is left behind."""
    options, said = REFUSED[case]
    done = mesh.meshml("render", *options, "--as", "kubernetes", "--out", "out")
    assert (done.status in {2, 3}, said in done.err) == (True, True), done.err
    assert not (mesh.folder / "out").exists()


def test_an_open_parameter_is_refused_as_a_finding(mesh: SmallMesh) -> None:
    """A mesh with a value that nobody has given yet cannot run."""
    mesh.change("hostname: localhost", "hostname: '${HOST}'")
    render = ("render", "--client", "job", "--as", "envoy", "--out", "out")
    done = mesh.meshml(*render)
    assert (done.status, "HOST" in done.err) == (1, True)


def test_a_certificate_in_acm_is_refused(mesh: SmallMesh) -> None:
    """No Envoy can ask AWS Certificate Manager."""
    arn = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
    supplied = "mode: STRICT\n            certificate: {sds: {secretName: relay}}"
    mesh.change(
        supplied, f"mode: STRICT\n            certificate: {{acm: {{certificateArn: '{arn}'}}}}"
    )
    done = mesh.meshml(
        *("render", "--node", "relay", "--app-port", "9003", "--as", "envoy", "--out", "out")
    )
    assert (done.status in {1, 3}, "AWS Certificate Manager" in done.err) == (True, True), done.err


OUTSIDE = """\
  - virtualNodeName: store
    dataSource: {kind: objectStore, name: s3}
    spec:
      listeners: [{portMapping: {port: 443, protocol: http}}]
      serviceDiscovery: {dns: {hostname: s3.example.com}}

virtualRouters:"""


def test_a_node_outside_the_mesh_has_no_sidecar(mesh: SmallMesh) -> None:
    """What others run is called by its own name: nothing is rendered for it."""
    mesh.change("virtualRouters:", OUTSIDE)
    done = mesh.meshml(
        *("render", "--node", "store", "--app-port", "1", "--as", "envoy", "--out", "out")
    )
    assert (done.status, "runs outside the mesh" in done.err) == (3, True), done.err
