"""A small world for sidecars: an upstream server, an Envoy configuration, a supervisor process.

sidecar_lab.py PLAN.json     supervises what the file says, prints the outcome, ends with its status
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from meshml_dbx.sidecar import CloseLimits, SidecarPlan, find_envoy, supervise
from meshml_dbx.traffic.log_folder import SidecarLogs, StateFolder
from tests.free_ports import free_port

TYPES = "type.googleapis.com/envoy"
TOKEN = "not-for-the-log"  # noqa: S105  # of no use to anybody


class Answers(BaseHTTPRequestHandler):
    """Answers at once; under /slow/S after S seconds, under /cut with nothing at all."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self) -> None:
        """Answer as the path says."""
        _, kind, *rest = self.path.split("/")
        if kind == "slow":
            time.sleep(float(rest[0]))
        if kind == "cut":
            self.close_connection = True
            return
        with suppress(OSError):
            self.send_response(500 if kind == "broken" else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing."""


class Upstream(ThreadingHTTPServer):
    """A server of Answers on a free port."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that are cut are what these tests are about."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


@contextmanager
def upstream() -> Iterator[Upstream]:
    """A server that runs while the block does."""
    server = Upstream(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def access_log(path: Path, record: str) -> list[dict[str, object]]:
    """A file log with the fields that this room reads."""
    keys = {
        "_record": record,
        "_type": "%ACCESS_LOG_TYPE%",
        "start_time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "observer": "egress",
        "path": "%PATH(NQ)%",
        "code": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
    }
    config = {
        "@type": f"{TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(path),
        "log_format": {"json_format": keys},
    }
    return [{"name": "file", "typed_config": config}]


def address(port: int) -> dict[str, object]:
    """A port of this machine, as Envoy writes it."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def resources(port: int, upstream_port: int, access: Path) -> dict[str, dict[str, object]]:
    """Envoy's files as values: one listener, one route for everything, one cluster."""

    def source(name: str) -> dict[str, object]:
        return {"path_config_source": {"path": f"xds/{name}.json"}, "resource_api_version": "V3"}

    router = {
        "@type": f"{TYPES}.extensions.filters.http.router.v3.Router",
        "upstream_log": access_log(access, "attempt"),
    }
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "egress",
        "rds": {"route_config_name": "routes", "config_source": source("rds")},
        "http_filters": [{"name": "router", "typed_config": router}],
        "access_log": access_log(access, "call"),
        "access_log_options": {
            "flush_access_log_on_new_request": True,
            "access_log_flush_interval": "1s",
        },
    }
    endpoint = {"endpoint": {"address": address(upstream_port)}}
    cluster = {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": "upstream",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "60s"}}
    routes = {
        "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
        "name": "routes",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
    }
    listener = {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": "egress",
        "enable_reuse_port": False,
        "address": address(port),
        "access_log": access_log(access, "connection"),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    bootstrap = {
        "node": {"id": "lab", "cluster": "lab"},
        "admin": {"address": {"pipe": {"path": "admin.sock", "mode": 0o600}}},
        "dynamic_resources": {"cds_config": source("cds"), "lds_config": source("lds")},
    }
    return {
        "bootstrap.json": bootstrap,
        "xds/cds.json": {"resources": [cluster]},
        "xds/rds.json": {"resources": [routes]},
        "xds/lds.json": {"resources": [listener]},
        "xds/sds-secret.json": {"token": TOKEN},
    }


def texts(values: dict[str, dict[str, object]]) -> dict[str, str]:
    """The files as text."""
    return {name: json.dumps(value) for name, value in values.items()}


def make_plan(state: Path, upstream_port: int, *command: str, name: str = "lab-1") -> SidecarPlan:
    """A plan whose Envoy listens on a free port and writes below this state folder."""
    port = free_port()
    logs = SidecarLogs(root=state / "logs", sidecar_id=name)
    return SidecarPlan(
        sidecar_id=name,
        process_id=str(uuid.uuid4()),
        mesh="ml",
        mesh_version="v1",
        observer="egress",
        client="churn-training",
        environment="test",
        mesh_source="mesh.yml",
        mesh_document="mesh: {meshName: ml}\n",
        files=texts(resources(port, upstream_port, logs.access)),
        listens=(("127.0.0.1", port),),
        command=command,
        program_environment={"LAB_PORT": str(port)},
    )


def port_of(plan: SidecarPlan) -> int:
    """Where the plan's Envoy listens."""
    return plan.listens[0][1]


def logs_of(state: Path, plan: SidecarPlan) -> SidecarLogs:
    """Where the plan's sidecar writes."""
    return SidecarLogs(root=state / "logs", sidecar_id=plan.sidecar_id)


@dataclass(slots=True)
class Supervisor:
    """A supervisor in a process of its own."""

    process: "subprocess.Popen[bytes]"
    state: Path
    plan: SidecarPlan

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.state / "run" / self.plan.sidecar_id

    def kill(self) -> None:
        """End it at once, as the kernel would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and its exit status."""
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def supervisor(state: Path, plan: SidecarPlan) -> Iterator[Supervisor]:
    """A supervisor process whose Envoy serves; killed at the end of the block if it still runs."""
    process = subprocess.Popen([sys.executable, __file__, str(write_order(state, plan))])
    found = Supervisor(process, state, plan)
    try:
        await_serving(plan, process)
        yield found
    finally:
        if process.poll() is None:
            found.kill()


def write_order(state: Path, plan: SidecarPlan) -> Path:
    """The file that this module reads when it is run."""
    state.mkdir(parents=True, exist_ok=True)
    order = state / f"{plan.sidecar_id}.json"
    order.write_text(json.dumps({"state": str(state), "plan": asdict(plan)}))
    return order


def await_serving(plan: SidecarPlan, process: "subprocess.Popen[bytes]") -> None:
    """Return when the plan's port answers."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port_of(plan)), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"the sidecar does not serve; exit code {process.poll()}")


def call(port: int, path: str = "/") -> int:
    """One call on a connection of its own; its status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@dataclass(slots=True)
class Load:
    """Calls without end from some threads; each path is unique, its answer's time kept."""

    port: int
    answered: dict[str, float] = field(default_factory=dict)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Call until it is over; a lost connection is made again."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.is_over.is_set():
            path = f"/{uuid.uuid4()}"
            try:
                connection.request("GET", path)
                connection.getresponse().read()
                self.answered[path] = time.time()
            except (OSError, HTTPException):
                connection.close()
                time.sleep(0.005)
        connection.close()


@contextmanager
def load(port: int, threads: int = 4) -> Iterator[Load]:
    """Load while the block runs."""
    made = Load(port)
    with at_work(made.run, made.is_over, threads=threads):
        yield made


@contextmanager
def at_work(run: Callable[[], None], is_over: threading.Event, *, threads: int) -> Iterator[None]:
    """Threads that run while the block does, until they are told that it is over."""
    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        is_over.set()
        for worker in workers:
            worker.join(20)


def lines_of(folder: Path) -> list[dict[str, object]]:
    """Every whole line of the files in this folder, in the order of their names."""
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.jsonl")))
    return [json.loads(line) for line in text.splitlines()]


def records(logs: SidecarLogs, record: str, *kinds: str) -> list[dict[str, object]]:
    """The closed records of one sort, oldest first where they carry a time."""
    found = [line for line in lines_of(logs.closed) if line["_record"] == record]
    chosen = [line for line in found if not kinds or line["_type"] in kinds]
    return sorted(chosen, key=lambda line: str(line.get("time", "")))


def ends(logs: SidecarLogs) -> Counter[str]:
    """How many end lines each path has in the closed files."""
    return Counter(str(line["path"]) for line in records(logs, "call", "DownstreamEnd"))


def envoy_of(folder: Path) -> int:
    """The process id of the Envoy that runs in this folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_here = (entry / "cwd").resolve() == folder.resolve()
            if is_here and b"bootstrap.json" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise AssertionError(f"no Envoy runs in {folder}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def await_true(condition: Callable[[], object], *, within_s: float, what: str) -> float:
    """How long it took until the condition held."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s, f"{what}: not within {within_s:g} s"
        time.sleep(0.01)
    return time.monotonic() - begun


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Supervise as a process of its own."""
    order = json.loads(Path(sys.argv[1]).read_text())
    values = order["plan"]
    plan = SidecarPlan(**{**values, "limits": CloseLimits(**values["limits"])})
    plan = replace(
        plan,
        listens=tuple((bind, port) for bind, port in values["listens"]),
        command=tuple(values["command"]),
    )
    binary = find_envoy(os.environ, cache=Path(order["state"]) / "cache")
    outcome = supervise(plan, binary=binary, state=StateFolder(root=Path(order["state"])))
    return outcome.exit_status


if __name__ == "__main__":
    sys.exit(main())
