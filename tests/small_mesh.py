"""A small mesh at work: a client and two services, started by the commands that a user types.

Goes in: a folder. Comes out: a mesh file on free ports, running sidecars with their programs, the
outcome of each ``meshml`` command, and the lines that its sidecar wrote.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.free_ports import free_port

SERVICE = (sys.executable, str(Path(__file__).with_name("small_service.py")))
LABELS = "http://labels.small.local/v1/labels/7"
DEADLINE_S = 60.0

MESH = """\
mesh:
  meshName: small
  spec: {egressFilter: {type: DROP_ALL}}
tags: {environment: test}

clients:
  - clientName: job
    role: training
    spec:
      backends:
        - {virtualService: {virtualServiceName: labels.small.local}}
        - {virtualService: {virtualServiceName: relay.small.local}}
      backendDefaults:
        clientPolicy: &policy
          tls:
            certificate: {sds: {secretName: job}}
            validation: {trust: {sds: {secretName: small}}}

virtualNodes:
  - virtualNodeName: labels
    spec:
      listeners:
        - portMapping: {port: LABELS_PORT, protocol: http}
          tls:
            mode: STRICT
            certificate: {sds: {secretName: labels}}
            validation:
              trust: {sds: {secretName: small}}
              subjectAlternativeNames:
                match: {exact: ["spiffe://small/job", "spiffe://small/relay"]}
      serviceDiscovery: {dns: {hostname: localhost}}
  - virtualNodeName: relay
    spec:
      listeners:
        - portMapping: {port: RELAY_PORT, protocol: http}
          tls:
            mode: STRICT
            certificate: {sds: {secretName: relay}}
            validation: {trust: {sds: {secretName: small}}}
      serviceDiscovery: {dns: {hostname: localhost}}
      backends: [{virtualService: {virtualServiceName: labels.small.local}}]
      backendDefaults:
        clientPolicy:
          tls:
            certificate: {sds: {secretName: relay}}
            validation: {trust: {sds: {secretName: small}}}

virtualRouters:
  - virtualRouterName: labels
    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
    routes:
      - routeName: by-day
        spec:
          httpRoute:
            match: {prefix: /v1/labels}
            action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
      - routeName: rest
        spec:
          httpRoute:
            match: {prefix: /}
            action: {weightedTargets: [{virtualNode: labels, weight: 1}]}

virtualServices:
  - virtualServiceName: labels.small.local
    spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
  - virtualServiceName: relay.small.local
    spec: {provider: {virtualNode: {virtualNodeName: relay}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def sidecar_id(self) -> str:
        """The sidecar that it started, by its first line on standard error."""
        return self.err.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A command that goes on."""

    process: "subprocess.Popen[str]"
    folder: Path

    def read_line(self) -> str:
        """The next line of its program's output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to ``meshml`` alone."""
        self.process.send_signal(number)

    def finish(self) -> Done:
        """Its end, waited for."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return Done(status=self.process.returncode, out=out, err=err)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallMesh:
    """A mesh file in a folder of its own, the commands on it, and their logs.

    ``environ`` is what a user's shell would have; nothing of the caller's proxies is in it.
    """

    folder: Path
    ports: Mapping[str, int]
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The mesh file."""
        return self.folder / "mesh.yml"

    @property
    def state(self) -> Path:
        """Where everything of this mesh is kept."""
        return self.folder / ".meshml"

    def change(self, old: str, new: str) -> None:
        """Write the mesh file anew with something else in it."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    # --- commands -----------------------------------------------------------------------------

    def meshml(
        self, *arguments: str, stdin: str = "", python: str = sys.executable, **variables: str
    ) -> Done:
        """A command, run to its end."""
        done = subprocess.run(
            [python, "-m", "meshml_dbx", *arguments],
            cwd=self.folder,
            env={**self._environment(), **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Done(status=done.returncode, out=done.stdout, err=done.stderr)

    def run(self, *command: str, **variables: str) -> Done:
        """A program, run to its end as the client ``job``."""
        return self.meshml("run", "--client", "job", "--", *command, **variables)

    def python(self, code: str, *arguments: str, **variables: str) -> Done:
        """A Python program, run to its end as the client ``job``."""
        return self.run(sys.executable, "-c", code, *arguments, **variables)

    @contextmanager
    def start(self, *arguments: str, **variables: str) -> Iterator[Running]:
        """A command that goes on, in a session of its own; ended with all that it started."""
        process = subprocess.Popen(
            [sys.executable, "-m", "meshml_dbx", *arguments],
            cwd=self.folder,
            env={**self._environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield Running(process=process, folder=self.folder)
        finally:
            end_group(process)

    @contextmanager
    def serve(self, node: str, *command: str) -> Iterator[Running]:
        """A node's service behind its sidecar, ready to answer."""
        program = command or SERVICE
        with self.start("sidecar", "--node", node, "--", *program) as running:
            line = running.read_line()
            assert line == "serving", running.finish().err
            yield running

    def _environment(self) -> dict[str, str]:
        ours = ("MESHML_", "ENVOY_PATH", "MLFLOW_")
        mine = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().endswith("_PROXY") and not name.startswith(ours)
        }
        return {**mine, **self.environ}

    # --- logs ---------------------------------------------------------------------------------

    def sidecars(self, member: str) -> list[str]:
        """The sidecars that a member has had."""
        pattern = f"{member}-" + "[0-9a-f]" * 8
        return [path.name for path in (self.state / "logs").glob(pattern)]

    def lines(self, sidecar_id: str, **values: object) -> list[dict[str, object]]:
        """Every whole line of a sidecar so far that has these values, closed files first."""
        folder = self.state / "logs" / sidecar_id
        files = [*sorted((folder / "closed").glob("*.jsonl")), *(folder / "live").glob("*.jsonl")]
        text = b"".join(path.read_bytes() for path in files)
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line[-1:] == b"\n"]
        return [it for it in found if values.items() <= it.items()]

    def calls(self, sidecar_id: str, **values: object) -> list[dict[str, object]]:
        """The finished calls of a sidecar."""
        return self.lines(sidecar_id, _record="call", _type="DownstreamEnd", **values)


def make_mesh(folder: Path, text: str = MESH, **environ: str) -> SmallMesh:
    """The mesh file in a folder, with free ports where it says ``…_PORT``."""
    names = dict.fromkeys(re.findall(r"([A-Z0-9]+)_PORT", text))
    ports = {name.lower(): free_port() for name in names}
    for name, port in ports.items():
        text = text.replace(f"{name.upper()}_PORT", str(port))
    mesh = SmallMesh(folder=folder, ports=ports, environ=environ)
    mesh.file.write_text(text)
    return mesh


# --- processes --------------------------------------------------------------------------------


def end_group(process: "subprocess.Popen[str]") -> None:
    """End a process and what it started in its session, politely at first."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=DEADLINE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def envoys_below(folder: Path) -> list[int]:
    """The process ids of the Envoys whose working directory is below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_below = (entry / "cwd").resolve().is_relative_to(folder.resolve())
            if is_below and b"bootstrap.json" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object], what: str, *, within_s: float = 10.0) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
