"""The demo's processes: five services behind their sidecars, and the training program.

Goes in: a folder. Comes out: living processes, each started by the same commands that a user
types. They end with the world; on Linux also when it is killed.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from meshml_dbx.demo.data import Shape, write_data
from meshml_dbx.demo.faults import HEALTHY_CALLER, Fault
from meshml_dbx.errors import MeshMLError
from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings, store_settings

NODES = {
    "records-v1": "records",
    "labels-v1": "labels",
    "labels-v2": "labels",
    "features-v1": "features",
    "scoring-v1": "scoring",
}
NODES_OF_SERVICES = {
    "records.ml.local": [("records-v1", 1)],
    "labels.ml.local": [("labels-v1", 70), ("labels-v2", 30)],
    "features.ml.local": [("features-v1", 1)],
    "scoring.ml.local": [("scoring-v1", 1)],
}
"""What the mesh file routes, for a program that has no mesh."""

MARK = ".meshml-demo"
"""A file that says that a folder is a demo's: only such a folder is ever cleared."""

OWN_FOLDERS = ("trust", "run", "logs", "lake", "checkpoints", "artifacts")
OWN_FILES = (
    "mesh*.yml",
    "mlflow.db*",
    "*.log",
    "report.html",
    "settings.json",
    "data.json",
    "direct.json",
)
PR_SET_PDEATHSIG = 1
READY_S = 60.0
TRAINING_S = 180.0
STOP_S = 15.0

INITIALISE_TRACKING = """
import mlflow, sys
mlflow.set_tracking_uri(sys.argv[1])
mlflow.create_experiment("churn", artifact_location=sys.argv[2])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a node's peers and its own program listen."""

    peers: int
    program: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One demo's folder, data and ports.

    ``state`` is the state folder that every command of the demo is given.
    """

    state: Path
    shape: Shape
    ports: Mapping[str, Ports]

    @property
    def tracking(self) -> str:
        """The MLflow store, an SQLite file."""
        return tracking_of(self.state)

    @property
    def mesh(self) -> Path:
        """The mesh file of the healthy mesh."""
        return mesh_of(self.state)

    @property
    def data(self) -> Path:
        """What the services serve."""
        return self.state / "data.json"


def tracking_of(state: Path) -> str:
    """The MLflow store of the demo in this folder."""
    return f"sqlite:///{state.resolve() / 'mlflow.db'}"


def mesh_of(state: Path) -> Path:
    """The mesh file of the demo in this folder."""
    return state / "mesh.yml"


def empty_world(state: Path) -> None:
    """A folder for the demo with its settings, and nothing of an earlier one.

    Raises:
        MeshMLError: the folder holds something that no demo put there.
    """
    clear_world(state)
    state.mkdir(parents=True, exist_ok=True)
    (state / MARK).touch()
    store_settings(state, mesh=str(mesh_of(state)), tracking=tracking_of(state))


def build_world(state: Path) -> World:
    """Data, a mesh file with free ports, and an MLflow store, in a folder that is the demo's.

    MLflow's store must be there before two processes use it: both would try to make its tables.
    """
    shape = write_data(state / "data.json")
    numbers = free_ports(2 * len(NODES))
    ports = {
        node: Ports(peers=numbers[2 * i], program=numbers[2 * i + 1])
        for i, node in enumerate(NODES)
    }
    world = World(state=state, shape=shape, ports=ports)
    write_mesh(world, world.mesh, features_caller=HEALTHY_CALLER)
    if not (state / "mlflow.db").exists():
        python(
            ["-c", INITIALISE_TRACKING, world.tracking, (state / "artifacts").resolve().as_uri()]
        )
    return world


def write_mesh(world: World, path: Path, *, features_caller: str) -> None:
    """The demo's mesh file with this world's ports."""
    template = files("meshml_dbx.demo").joinpath("mesh.yml").read_text(encoding="utf-8")
    values = {node.replace("-", "_"): str(ports.peers) for node, ports in world.ports.items()}
    path.write_text(
        Template(template).substitute(values, features_caller=features_caller), encoding="utf-8"
    )


@contextmanager
def living_services(world: World) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """All services behind their sidecars; they end when the block does."""
    with ExitStack() as stack:
        services: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(lambda: stop(*services.values()))
        for node in NODES:
            services[node] = start_service(world, node, mesh=world.mesh)
        for node in NODES:
            wait_ready(world, node, services[node])
        yield services


def break_world(world: World, fault: Fault, services: dict[str, subprocess.Popen[bytes]]) -> None:
    """Start the faulty node anew, with the fault in its program or in its mesh file."""
    if not fault.node:
        return
    stop(services[fault.node])
    mesh = world.mesh
    if fault.features_caller:
        mesh = world.state / "mesh-changed.yml"
        write_mesh(world, mesh, features_caller=fault.features_caller)
    services[fault.node] = start_service(
        world, fault.node, mesh=mesh, service_fault=fault.service_fault
    )
    wait_ready(world, fault.node, services[fault.node])


def mend_world(world: World, fault: Fault, services: dict[str, subprocess.Popen[bytes]]) -> None:
    """Start the faulty node anew, healthy."""
    if not fault.node:
        return
    stop(services[fault.node])
    services[fault.node] = start_service(world, fault.node, mesh=world.mesh)
    wait_ready(world, fault.node, services[fault.node])


def start_service(
    world: World, node: str, *, mesh: Path, service_fault: str = ""
) -> subprocess.Popen[bytes]:
    """One service behind its sidecar, by the command that a user would type."""
    program = [
        sys.executable,
        "-m",
        "meshml_dbx.demo.services",
        NODES[node],
        "--data",
        str(world.data),
    ]
    if service_fault:
        program += ["--fault", service_fault]
    port = str(world.ports[node].program)
    command = meshml(world, "sidecar", "--mesh", mesh, "--node", node, "--app-port", port)
    with (world.state / f"{node}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--", *program],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=own_environment(world),
            preexec_fn=end_with_parent,  # noqa: PLW1509  # one call of libc, loaded already
        )


def start_training(world: World, *, direct: Path | None = None) -> subprocess.Popen[str]:
    """The training program behind its own sidecar; ``direct``: without one, recording itself."""
    verb = "record" if direct else "run"
    command = meshml(world, verb, "--mesh", world.mesh, "--client", HEALTHY_CALLER)
    program = [sys.executable, "-m", "meshml_dbx.demo.train", "--rows", str(world.shape.rows)]
    if direct:
        program += ["--direct", str(direct)]
    with (world.state / "training.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--", *program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=own_environment(world),
            preexec_fn=end_with_parent,  # noqa: PLW1509  # as above
        )


def write_direct(world: World) -> Path:
    """Where the services are for a training program without a sidecar, and who it is."""
    identity = Session(read_settings({}, state=world.state)).identity(HEALTHY_CALLER)
    services = {
        service: [(f"localhost:{world.ports[node].peers}", weight) for node, weight in nodes]
        for service, nodes in NODES_OF_SERVICES.items()
    }
    path = world.state / "direct.json"
    values = {
        "services": services,
        "certificate": str(identity.certificate_chain),
        "key": str(identity.private_key),
        "authority": str(identity.authority),
    }
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def finish_training(world: World, training: subprocess.Popen[str]) -> str:
    """The MLflow run's id, once the training program has ended."""
    try:
        out, _ = training.communicate(timeout=TRAINING_S)
    except subprocess.TimeoutExpired:
        stop(training)
        raise MeshMLError(
            f"the demo's training run did not end within {TRAINING_S:.0f} s",
            advice=f"read {world.state / 'training.log'}",
        ) from None
    if training.returncode != 0 or not out.strip():
        raise MeshMLError(
            f"the demo's training run failed with exit status {training.returncode}",
            advice=f"read {world.state / 'training.log'}",
        )
    return out.strip().splitlines()[-1]


def meshml(world: World, verb: str, *arguments: str | Path) -> list[str]:
    """A meshml command on this world's state."""
    words = [sys.executable, "-m", "meshml_dbx", verb, "--state", str(world.state), "--quiet"]
    return words + [str(argument) for argument in arguments]


def wait_ready(world: World, node: str, service: subprocess.Popen[bytes]) -> None:
    """Return once the node's program answers and its sidecar accepts connections."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and service.poll() is None:
        if answers(world.ports[node].program) and accepts(world.ports[node].peers):
            return
        time.sleep(0.05)
    raise MeshMLError(
        f"the demo's service {node} did not come up",
        advice=f"read {world.state / (node + '.log')}",
    )


def answers(port: int) -> bool:
    """Whether a program answers its health check."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004  # OK
    except (urllib.error.URLError, OSError):
        return False


def accepts(port: int) -> bool:
    """Whether something listens."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def stop(*processes: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """End processes together: asked first, killed if they do not listen."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def python(arguments: list[str]) -> None:
    """Run a small program of ours to its end."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeshMLError(
            "the demo's MLflow store could not be made: "
            + (done.stderr.strip().splitlines() or ["no message"])[-1],
            advice='install the demo\'s parts: pip install "meshml_dbx[demo]"',
        )


def clear_world(state: Path) -> None:
    """Remove what an earlier demo left in its folder, and nothing else.

    Raises:
        MeshMLError: the folder holds something, and no demo made it.
    """
    if not state.exists() or not any(state.iterdir()):
        return
    if not (state / MARK).is_file():
        raise MeshMLError(
            f"{state} is not empty, and no demo made it", advice="name another folder with --dir"
        )
    for name in OWN_FOLDERS:
        shutil.rmtree(state / name, ignore_errors=True)
    for pattern in OWN_FILES:
        for path in state.glob(pattern):
            path.unlink()


def own_environment(world: World) -> dict[str, str]:
    """The environment of the demo's processes: the user's, but for settings of other work.

    Without MLflow's calls to its makers, which are none of the demo's and need a network.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith("MESHML_")}
    own = {"MLFLOW_TRACKING_URI": world.tracking, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**others, **own}


def end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it is gone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
