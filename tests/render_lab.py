"""Rendered members at work, as somebody starts them who has only the folder and a stock Envoy.

Goes in: a folder that was rendered, or the manifests of a platform. Comes out: running processes.
What a platform would do with its manifests (mount a ConfigMap, run a first container) is done here
below a root of the test's own.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from meshml_dbx.sidecar import find_envoy
from tests.small_mesh import SERVICE

DEADLINE_S = 20.0


@contextmanager
def started(
    command: list[str], folder: Path, *ports: int, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process, in a session of its own, once all of these ports are open."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**plain_environment(), "ENVOY_PATH": envoy_path(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        for port in ports:
            await_port(port, process)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        if process.stdout and not process.stdout.closed:
            process.communicate(timeout=DEADLINE_S)


def await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return when somebody listens there."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, f"nobody listens at {port}"
        time.sleep(0.02)


@contextmanager
def program(port: int) -> Iterator[None]:
    """The small service at a port."""
    with started([*SERVICE], Path(), port, PORT=str(port)):
        yield


def envoy_path() -> str:
    """The Envoy that the tests use."""
    return find_envoy(os.environ).path


def plain_environment() -> dict[str, str]:
    """A shell's variables without anything that leads through a proxy or to a state folder."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith("MESHML_")
    }


def plain_envoy(folder: Path) -> list[str]:
    """The command that the README gives for Envoy without the script."""
    line = next(
        line
        for line in (folder / "README.md").read_text().splitlines()
        if line.startswith("    flock ")
    )
    words = shlex.split(line)
    return [envoy_path() if word == "envoy" else word for word in words]


def variables_in(folder: Path) -> dict[str, str]:
    """What a shell has after it read ``program.env``."""
    done = subprocess.run(
        ["sh", "-c", "set -a; . ./program.env; exec env -0"],
        cwd=folder,
        env={},
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
    )
    pairs = (one.partition("=") for one in done.stdout.decode().split("\0") if one)
    return {name: value for name, _, value in pairs}


def call(url: str, proxy: str) -> tuple[int, str]:
    """Status and body of a call through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    try:
        with opener.open(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def lines_below(logs: Path, **values: object) -> list[dict[str, object]]:
    """Every whole line of a log folder that has these values, whichever file it is in."""
    text = b"".join(path.read_bytes() for path in sorted(logs.glob("**/*.jsonl")))
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line[-1:] == b"\n"]
    return [it for it in found if values.items() <= it.items()]


# --- platforms --------------------------------------------------------------------------------


def mount_config_map(files: Mapping[str, str]) -> None:
    """Do what a kubelet does with the ConfigMap: each key as the file that the volume says."""
    config, container = yaml.safe_load(files["config.yaml"]), envoy_container(files)
    volumes = {it["name"]: it for it in pod_of(files)["volumes"]}
    volume = volumes["envoy-config"]["configMap"]
    assert isinstance(volume, dict)
    assert volume["name"] == config["metadata"]["name"]
    folder = Path(mount_of(container, "envoy-config"))
    for item in volume["items"]:
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config["data"][item["key"]])
    Path(mount_of(container, "envoy-run")).mkdir(parents=True)


def mount_secret(files: Mapping[str, str], content: Mapping[str, str]) -> None:
    """Do what a kubelet does with a Secret: all of it behind one link."""
    folder = Path(mount_of(envoy_container(files), "envoy-certificates"))
    (folder / "..1").mkdir(parents=True)
    (folder / "..data").symlink_to("..1")
    for name, text in content.items():
        (folder / "..1" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")


def pod_of(files: Mapping[str, str]) -> "dict[str, list[dict[str, object]]]":
    """The pod of a workload."""
    found = yaml.safe_load(files["workload.yaml"])["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def envoy_container(files: Mapping[str, str]) -> dict[str, object]:
    """Envoy's container, beside a program or alone."""
    pod = pod_of(files)
    both = [*pod.get("initContainers", []), *pod["containers"]]
    return next(it for it in both if it["name"] == "envoy")


def mount_of(container: dict[str, object], volume: str) -> str:
    """Where a container sees a volume."""
    mounts = container["volumeMounts"]
    assert isinstance(mounts, list)
    return next(str(it["mountPath"]) for it in mounts if it["name"] == volume)
