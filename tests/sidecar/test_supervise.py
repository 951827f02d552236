"""One supervisor, its Envoy and its program: exit status, records, counters, signals, trouble."""

import os
import pty
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshml_dbx.errors import EnvoyError, LogFolderError, MissingToolError, PortTakenError
from meshml_dbx.sidecar import (
    CloseLimits,
    EnvoyBinary,
    Outcome,
    SidecarPlan,
    living,
    request_close,
    supervise,
)
from meshml_dbx.traffic.log_folder import StateFolder
from meshml_dbx.traffic.program_log import MESH_FIELDS, PROGRAM_FIELDS, SAMPLE_FIELDS
from tests.sidecar.sidecar_lab import (
    TOKEN,
    Upstream,
    await_true,
    call,
    ends,
    envoy_of,
    kill,
    logs_of,
    make_plan,
    port_of,
    records,
    supervisor,
    write_order,
)

pytestmark = pytest.mark.envoy

CALLS = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
def call(path):
    connection = HTTPConnection("127.0.0.1", int(os.environ["LAB_PORT"]), timeout=20)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except (OSError, HTTPException):
        pass
    connection.close()
paths = [f"/{kind}/{n}" for n in range(20) for kind in ("fine", "broken", "cut", "good")]
with ThreadPoolExecutor(8) as pool:
    list(pool.map(call, paths))
"""


def run(plan: SidecarPlan, envoy: EnvoyBinary, state: Path) -> Outcome:
    """Supervise in this process."""
    return supervise(plan, binary=envoy, state=StateFolder(root=state))


def python(code: str) -> tuple[str, ...]:
    """A command that runs this code."""
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_the_exit_status_is_the_programs(
    envoy: EnvoyBinary, server: Upstream, state: Path, code: str, expected: int
) -> None:
    """A program's exit code is passed on; one that signal n killed gives 128 + n."""
    outcome = run(make_plan(state, server.port, *python(code)), envoy, state)
    assert (outcome.exit_status, outcome.trouble) == (expected, ())


def test_counted_calls_are_logged_calls(envoy: EnvoyBinary, server: Upstream, state: Path) -> None:
    """After 80 calls from 8 threads, some failing, the last sample's total - active is the number
    of end lines in the closed files, and each call has exactly one."""
    plan = make_plan(state, server.port, *python(CALLS))
    outcome = run(plan, envoy, state)
    (last,) = records(logs_of(state, plan), "sample", "last")
    found = ends(logs_of(state, plan))
    assert last["requests_total"] == outcome.requests_total == 80
    assert last["requests_active"] == 0
    assert (sum(found.values()), max(found.values())) == (80, 1)


def test_calls_in_flight_at_the_end_are_counted_and_logged(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """Calls that nobody waits for any more when the sidecar ends still get their end line."""
    plan = make_plan(state, server.port, *python("import time; time.sleep(1)"))
    calls = [threading.Thread(target=hang, args=(port_of(plan), f"/slow/30/{n}")) for n in range(3)]
    for one in calls:
        one.start()
    outcome = run(plan, envoy, state)
    for one in calls:
        one.join()
    found = records(logs_of(state, plan), "call", "DownstreamEnd")
    assert outcome.requests_total == len(found) == 3
    assert {line["flags"] for line in found} == {"DC"}


def hang(port: int, path: str) -> None:
    """Call as soon as somebody listens; the connection will be cut."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            call(port, path)
        except ConnectionRefusedError:
            time.sleep(0.02)
        except OSError:
            return


def test_records_have_the_fields_of_their_tables(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """A sample has every field but a recorder's; mesh and program have none beside theirs."""
    plan = make_plan(state, server.port, *python("import time; time.sleep(1.3)"))
    run(plan, envoy, state)
    logs = logs_of(state, plan)
    samples = records(logs, "sample")
    assert [one["_type"] for one in samples] == ["periodic", "periodic", "last"]
    told = {"_record", *(one.json_key() for one in SAMPLE_FIELDS)} - {"dropped"}
    assert set(samples[-1]) == told
    (mesh,) = records(logs, "mesh")
    assert set(mesh) == {"_record", *(one.json_key() for one in MESH_FIELDS)}
    assert mesh["document"] == plan.mesh_document
    begin, end = records(logs, "program")
    known = {"_record", *(one.json_key() for one in PROGRAM_FIELDS)}
    assert set(begin) <= known
    assert set(end) <= known
    assert (begin["_type"], end["_type"], end["exit_code"]) == ("begin", "end", 0)
    assert begin["envoy_version"] == envoy.version


def test_cpu_time_holds_the_programs_children(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """CPU spent by a child that the program waited for is the program's."""
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    plan = make_plan(state, server.port, *python(code))
    run(plan, envoy, state)
    end = records(logs_of(state, plan), "program", "end")[0]
    assert 500_000 <= int(str(end["cpu_us"])) < 3_000_000


def test_the_log_never_holds_a_programs_arguments(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """Arguments may be secrets: only the names of the program and its script are recorded."""
    plan = make_plan(state, server.port, *python("pass"), "--password=hush")
    run(plan, envoy, state)
    text = b"".join(path.read_bytes() for path in logs_of(state, plan).closed.iterdir())
    assert b"hush" not in text
    assert b'"program":"python' in text


def test_the_run_folder_is_private_and_goes_away(server: Upstream, state: Path) -> None:
    """While it lives: folder 0700, files and socket 0600, no token in sidecar.json; then gone."""
    plan = make_plan(state, server.port)
    with supervisor(state, plan) as started:
        (found,) = living(StateFolder(root=state))
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in found.folder.iterdir()}
        assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
        assert {modes[name] for name in ("admin.sock", "bootstrap.json", "lock")} == {0o600}
        assert stat.S_IMODE((found.folder / "xds/lds.json").stat().st_mode) == 0o600
        assert TOKEN not in (found.folder / "sidecar.json").read_text()
        assert found.facts["listens"] == [f"127.0.0.1:{port_of(plan)}"]
        assert started.stop() == 0
    assert not found.folder.exists()
    assert living(StateFolder(root=state)) == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(server: Upstream, state: Path, number: signal.Signals) -> None:
    """A signal that the supervisor gets, the program gets; what it then does is its own affair."""
    mark = state / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({number.value}, lambda n, f: sys.exit(40 + n))\n"
        f"pathlib.Path({str(mark)!r}).touch()\n"
        "time.sleep(60)"
    )
    with supervisor(state, make_plan(state, server.port, *python(code))) as started:
        await_true(mark.exists, within_s=20, what="the program starts")
        started.process.send_signal(number)
        assert started.process.wait(30) == 40 + number.value


def test_a_signal_that_the_user_had_ignored_stays_ignored(server: Upstream, state: Path) -> None:
    """Under ``nohup`` a closed terminal ends neither the supervisor nor its program."""
    plan = make_plan(state, server.port, *python("import time; time.sleep(1.5)"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with supervisor(state, plan) as started:
            await_true(lambda: call(port_of(plan)) == 200, within_s=10, what="it serves")
            started.process.send_signal(signal.SIGHUP)
            assert started.process.wait(30) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_reaches_the_program_once(server: Upstream, state: Path) -> None:
    """A terminal's Ctrl-C goes to the whole group; the supervisor does not repeat it, and stays
    until the program has ended in its own time."""
    mark = state / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda n, f: seen.append(n))\n"
        f"pathlib.Path({str(mark)!r}).touch()\n"
        "while not seen: time.sleep(0.05)\n"
        "time.sleep(0.5)\n"
        "sys.exit(50 + len(seen))"
    )
    plan = make_plan(state, server.port, *python(code))
    state.mkdir()
    order = write_order(state, plan)
    child, terminal = pty.fork()
    if child == 0:
        lab = str(Path(__file__).with_name("sidecar_lab.py"))
        os.execv(sys.executable, [sys.executable, lab, str(order)])  # noqa: S606  # no shell is meant
    await_true(mark.exists, within_s=30, what="the program starts")
    os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 51


def test_a_sidecar_without_a_program_stays_until_a_signal(server: Upstream, state: Path) -> None:
    """It serves, closes when asked, and ends with 0 at SIGTERM; all lines are in closed files."""
    plan = make_plan(state, server.port)
    with supervisor(state, plan) as started:
        assert call(port_of(plan), "/before") == 200
        answers = request_close(StateFolder(root=state))
        assert answers.answered == (plan.sidecar_id,)
        assert ends(logs_of(state, plan)) == {"/before": 1}
        call(port_of(plan), "/after")
        assert started.stop() == 0
    assert ends(logs_of(state, plan)) == {"/before": 1, "/after": 1}


@pytest.mark.parametrize("limits", [CloseLimits(seconds=0.5), CloseLimits(size=400)])
def test_files_close_by_age_and_by_size(server: Upstream, state: Path, limits: CloseLimits) -> None:
    """A living sidecar closes its files by itself when they are old or large enough."""
    plan = replace(make_plan(state, server.port), limits=limits)
    with supervisor(state, plan):
        call(port_of(plan), "/one")
        await_true(lambda: ends(logs_of(state, plan))["/one"], within_s=10, what="a file closes")


def test_an_idle_sidecar_closes_nothing_by_age(server: Upstream, state: Path) -> None:
    """Samples alone do not make a file old: a sidecar that idles for a day leaves one file."""
    plan = replace(make_plan(state, server.port), limits=CloseLimits(seconds=0.2))
    events = logs_of(state, plan).events
    with supervisor(state, plan):
        await_true(
            lambda: events.exists() and len(events.read_bytes().splitlines()) > 2,
            within_s=20,
            what="three samples in one file, each a second after the other,",
        )


def test_an_envoy_that_dies_is_reported_and_the_program_goes_on(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """The program keeps its exit status; outcome and record tell, and open calls are Unfinished."""
    code = "import time; time.sleep(2); raise SystemExit(5)"
    plan = make_plan(state, server.port, *python(code))

    def disturb() -> None:
        other = threading.Thread(target=hang, args=(port_of(plan), "/slow/30"))
        other.start()
        run_folder = state / "run" / plan.sidecar_id
        await_true(
            lambda: b"DownstreamStart" in logs_of(state, plan).access.read_bytes(),
            within_s=20,
            what="the call starts",
        )
        kill(envoy_of(run_folder))
        other.join()

    trouble = threading.Thread(target=disturb)
    state.mkdir()
    logs_of(state, plan).live.mkdir(parents=True)
    logs_of(state, plan).access.touch()
    trouble.start()
    outcome = run(plan, envoy, state)
    trouble.join()
    assert outcome.exit_status == 5
    assert outcome.trouble[0] == "Envoy ended by itself (signal 9)"
    (end,) = records(logs_of(state, plan), "program", "end")
    assert "Envoy ended by itself" in str(end["note"])
    (left,) = records(logs_of(state, plan), "call", "Unfinished")
    assert left["path"] == "/slow/30"


def test_a_taken_port_is_named_before_anything_starts(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """Also when the port is held by another sidecar's Envoy; nothing is left behind."""
    plan = make_plan(state, server.port)
    taken = replace(plan, listens=(("127.0.0.1", server.port),))
    with pytest.raises(PortTakenError, match=f"port {server.port} on 127.0.0.1 is taken"):
        run(taken, envoy, state)
    assert not state.exists()


def test_a_missing_program_is_named_before_anything_starts(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """A misspelt program is an error of its own, not an exit status."""
    with pytest.raises(MissingToolError, match="no program 'pythn'"):
        run(make_plan(state, server.port, "pythn", "train.py"), envoy, state)
    assert not state.exists()


def test_a_refused_configuration_leaves_nothing_behind(
    envoy: EnvoyBinary, server: Upstream, state: Path
) -> None:
    """The error carries Envoy's words; no Envoy, run folder or log folder stays."""
    plan = make_plan(state, server.port, *python("pass"))
    bad = plan.files["xds/lds.json"].replace("%RESPONSE_FLAGS%", "%RESPONSE_FLAG%")
    with pytest.raises(EnvoyError, match=r"listeners \(lds\): .*egress: .*RESPONSE_FLAG"):
        run(replace(plan, files={**plan.files, "xds/lds.json": bad}), envoy, state)
    assert list((state / "run").iterdir()) == []
    assert list((state / "logs").iterdir()) == []


def test_a_long_state_folder_works(envoy: EnvoyBinary, server: Upstream, tmp_path: Path) -> None:
    """A Unix socket's path has 107 bytes at most; the state folder's may be longer."""
    state = tmp_path / ("long-" * 25)
    plan = make_plan(state, server.port, *python(CALLS))
    assert run(plan, envoy, state).requests_total == 80


def test_a_log_folder_that_cannot_be_written_is_named(
    envoy: EnvoyBinary, server: Upstream, state: Path, tmp_path: Path
) -> None:
    """The error says which folder, and no Envoy is started."""
    (tmp_path / "file").write_text("not a folder")
    plan = make_plan(state, server.port)
    with pytest.raises(LogFolderError, match=r"cannot write .*file"):
        supervise(plan, binary=envoy, state=StateFolder(root=state), logs=tmp_path / "file")


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may read and not write, also where it is root's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        user = os.geteuid()
        os.seteuid(65534 if user == 0 else user)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)
            Path(name).chmod(0o755)


def test_a_read_only_log_folder_is_named(
    envoy: EnvoyBinary, state: Path, read_only_folder: Path
) -> None:
    """A user who may not write the log folder is told which, before anything starts."""
    plan = make_plan(state, 9)
    with pytest.raises(LogFolderError, match=rf"cannot write {read_only_folder}/.*denied"):
        supervise(plan, binary=envoy, state=StateFolder(root=state), logs=read_only_folder)
