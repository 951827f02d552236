"""``meshml why`` as a person types it: real processes, a real MLflow store, a real log folder."""

import json
import os
import shlex
import shutil
import time
from pathlib import Path
from types import UnionType
from urllib.parse import unquote, urlsplit

import pytest

from tests.desk import CALLS, Desk, make_desk, process_of, store_run, write_log
from tests.log_writing import SECOND, T0, Writer
from tests.small_mesh import Done

OURS, WRONG_USE = 3, 2

# --- the promise ----------------------------------------------------------------------------------

Shape = type | UnionType | dict[str, "Shape"] | list["Shape"]

NUMBER = int | float
TEXTS: list[Shape] = [str]
CULPRIT: dict[str, Shape] = {
    "rank": int,
    "virtual_service": str,
    "route": str | None,
    "target": str | None,
    "upstream": str | None,
    "pattern": str,
    "cause": str,
    "wait_s": NUMBER,
    "share": NUMBER,
    "calls": int,
    "retries": int,
    "p95_ms": NUMBER,
    "baseline_p95_ms": NUMBER | None,
    "stages": TEXTS,
    "sentence": str,
    "sql": str,
}
IN_FLIGHT: dict[str, Shape] = {
    "request_id": str | None,
    "age_s": NUMBER,
    "virtual_service": str | None,
    "target": str | None,
    "stage": str | None,
}
PROMISE: dict[str, Shape] = {
    "run_id": str,
    "run_name": str,
    "status": str,
    "duration_s": NUMBER,
    "wait_s": NUMBER,
    "verdict": str,
    "baseline": str | None,
    "culprits": [CULPRIT],
    "in_flight": [IN_FLIGHT],
    "coverage": {
        "cpu_s": NUMBER | None,
        "tunnel_s": NUMBER,
        "unexplained_s": NUMBER,
        "not_seen": TEXTS,
    },
    "ledger": {
        "sent": int | None,
        "proxied": int | None,
        "rows": int,
        "quarantined": int,
        "lost": int,
    },
}
"""The names and types of ``why --json`` that other programs rely on; more may be there."""

CAUSES = (
    *("slow_upstream", "retry_storm", "stuck_call", "refused_identity", "connect_failure"),
    *("policy_timeout", "none"),
)


def broken_promises(value: object, shape: Shape, path: str = "") -> list[str]:
    """The paths in a JSON value that are missing or of another type than promised."""
    match shape:
        case dict():
            if not isinstance(value, dict):
                return [f"{path}: no object"]
            missing = [f"{path}.{name}: missing" for name in shape.keys() - value.keys()]
            there = [(name, inner) for name, inner in shape.items() if name in value]
            return missing + [
                text
                for name, inner in there
                for text in broken_promises(value[name], inner, f"{path}.{name}")
            ]
        case list():
            if not isinstance(value, list):
                return [f"{path}: no list"]
            return [text for one in value for text in broken_promises(one, shape[0], f"{path}[]")]
        case _:
            is_right = isinstance(value, shape) and not isinstance(value, bool)
            return [] if is_right else [f"{path}: {value!r}"]


# --- the desk -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk that no test changes."""
    folder = tmp_path_factory.mktemp("a desk")
    shutil.copy(empty_mlflow_store, folder / "mlflow.db")
    return make_desk(folder)


@pytest.fixture
def own_desk(desk: Desk, tmp_path: Path) -> Desk:
    """A desk of a test's own."""
    shutil.copytree(desk.folder, tmp_path / "own")
    return Desk(folder=tmp_path / "own", runs=desk.runs)


def answer_of(done: Done) -> dict[str, object]:
    """The one JSON object on standard output."""
    assert done.status == 0, done.err
    value: dict[str, object] = json.loads(done.out)
    return value


def assert_refused(done: Done, *words: str) -> None:
    """One message with these words and its next step; no traceback, nothing on standard output."""
    assert (done.status, done.out) == (OURS, ""), done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("reading ")]
    assert lines[0].startswith("error: ")
    assert [line[:8] for line in lines[1:]] == ["  next: "]
    assert [word for word in words if word not in done.err] == []


# --- the answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["slow", "healthy", "hangs", "never"])
def test_the_promised_names_are_all_there(desk: Desk, key: str) -> None:
    """With the promised types, for a run of every sort."""
    answer = answer_of(desk.meshml("why", desk.runs[key], "--json"))
    assert broken_promises(answer, PROMISE) == []
    assert answer["run_id"] == desk.runs[key]


def test_the_slow_run_is_explained(desk: Desk) -> None:
    """The target that was made slow comes first, with its cause; the parts fit into the whole."""
    answer = answer_of(desk.meshml("why", "last", "--json"))
    culprits = answer["culprits"]
    assert isinstance(culprits, list)
    first = culprits[0]
    assert (first["target"], first["cause"], first["rank"]) == ("labels-v2", "slow_upstream", 1)
    assert (first["p95_ms"], first["baseline_p95_ms"], first["stages"]) == (240, 40, ["training"])
    assert (answer["verdict"], answer["status"]) == ("mesh", "FINISHED")
    assert answer["baseline"] == f"run {desk.runs['healthy'][:6]} (healthy)"
    wait_s = answer["wait_s"]
    assert isinstance(wait_s, float)
    assert sum(one["wait_s"] for one in culprits) == pytest.approx(wait_s)
    assert answer["ledger"] == {
        "sent": CALLS,
        "proxied": CALLS,
        "rows": CALLS,
        "quarantined": 0,
        "lost": 0,
        "explained": [],
    }


def test_a_call_that_hangs_is_in_flight(desk: Desk) -> None:
    """It is shown before it ends, with its stage and where it went."""
    answer = answer_of(desk.meshml("why", "hangs", "--live", "--json"))
    in_flight = answer["in_flight"]
    assert isinstance(in_flight, list)
    told = [(one["request_id"], one["target"], one["stage"]) for one in in_flight]
    assert told == [("stuck-000001", "labels-v2", "training")]
    assert answer["status"] == "RUNNING"


def test_the_answer_for_people_is_short_and_ends_with_a_command(desk: Desk) -> None:
    """Run, culprit, cause, ledger, next: in that order."""
    done = desk.meshml("why", "last")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"run {desk.runs['slow'][:6]} churn-training   60.0 s   waited ")
    assert lines[1].split()[:6] == ["1", "labels.ml.local", "/", "by-day", "→", "labels-v2"]
    assert lines[2].startswith("     cause: slow upstream: ")
    assert lines[-2] == "ledger: sent 120 · proxied 120 · rows 120 · quarantined 0 · lost 0"
    assert lines[-1] == f"next: meshml why {desk.runs['slow'][:6]} --evidence"


def test_the_evidence_shows_the_calls(desk: Desk) -> None:
    """The rows name requests that are in the log."""
    done = desk.meshml("why", "last", "--evidence")
    rows = [line for line in done.out.splitlines() if "4e5f6a7b-" in line]
    assert len(rows) >= 5
    assert all("labels-v2" in row and "240 ms" in row for row in rows)


def test_a_baseline_that_is_named_is_the_one(desk: Desk) -> None:
    """Also where it is another run than the rule would take, and the next line repeats it."""
    healthy, slow = desk.runs["healthy"], desk.runs["slow"]
    done = desk.meshml("why", healthy, "--baseline", slow)
    assert f"baseline: run {slow[:6]}" in done.out.splitlines()[0]
    assert done.out.splitlines()[-1] == (
        f"next: meshml why {healthy[:6]} --evidence --baseline {slow[:6]}"
    )


# --- which run ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "last",
        "{slow}",
        "{slow:.7}",
        "churn-training",
        "http://host:5000/#/experiments/1/runs/{slow}",
    ],
)
def test_a_run_answers_to_each_of_its_names(desk: Desk, name: str) -> None:
    """Id, the begin of one, name, ``last``, and the address of the run's page."""
    answer = answer_of(desk.meshml("why", name.format(**desk.runs), "--json"))
    assert answer["run_id"] == desk.runs["slow"]


@pytest.mark.parametrize(
    ("name", "closest"), [("churn-trianing", "(churn-training)"), ("nihgtly", "(nightly)")]
)
def test_an_unknown_run_names_the_closest(desk: Desk, name: str, closest: str) -> None:
    """A slip of the finger costs one look."""
    assert_refused(desk.meshml("why", name), f"no run answers to {name!r}", "closest: ", closest)


def test_an_unknown_baseline_is_an_unknown_run(desk: Desk) -> None:
    """No silent comparison with something else."""
    assert_refused(desk.meshml("why", "last", "--baseline", "nihgtly"), "closest: ", "(nightly)")


def test_a_run_without_calls_is_unknown_not_an_error(desk: Desk) -> None:
    """The answer says what was not seen, and the line that records the next run."""
    done = desk.meshml("why", "nightly")
    assert done.status == 0
    assert "No call of this run was recorded" in done.out
    assert done.out.count("meshml run --mesh mesh.yml --client NAME -- python PROGRAM") == 1
    answer = answer_of(desk.meshml("why", "nightly", "--json"))
    assert (answer["verdict"], answer["culprits"]) == ("unknown", [])


# --- where things are -----------------------------------------------------------------------------


def test_a_missing_log_folder_is_named(desk: Desk, tmp_path: Path) -> None:
    """With what to do; nothing is made in its place."""
    missing = tmp_path / "none"
    done = desk.meshml("why", "last", "--logs", str(missing))
    assert_refused(done, f"the log folder {missing} cannot be read: No such file", "--logs")
    assert not missing.exists()


def test_an_empty_log_folder_is_named(desk: Desk, tmp_path: Path) -> None:
    """Nothing was ever recorded there."""
    done = desk.meshml("why", "last", "--logs", str(tmp_path))
    assert_refused(done, f"the log folder {tmp_path} is empty", "meshml run --client NAME")


def test_a_missing_store_is_named(desk: Desk, tmp_path: Path) -> None:
    """Both where it was given and where nothing names one."""
    none = tmp_path / "none.db"
    assert_refused(desk.meshml("why", "--tracking", f"sqlite:///{none}"), f"{none} does not exist")
    assert_refused(desk.meshml("why", cwd=tmp_path), "no tracking store", "--tracking")


def test_a_broken_settings_file_is_named(own_desk: Desk) -> None:
    """No traceback for a file that somebody edited by hand."""
    (own_desk.folder / ".meshml" / "settings.json").write_text("[")
    assert_refused(own_desk.meshml("why"), "settings.json", "mend or remove")


def test_an_unknown_option_is_wrong_use(desk: Desk) -> None:
    """Exit status 2, as every command line tool has it."""
    done = desk.meshml("why", "--evidnce")
    assert (done.status, done.out) == (WRONG_USE, "")
    assert "--evidence" in done.err


# --- damaged logs ---------------------------------------------------------------------------------


def writer_of(desk: Desk) -> Writer:
    """The sidecar of the slow run, to write on."""
    return Writer(
        logs=desk.logs,
        sidecar_id="churn-training-4e5f6a7b",
        process_id=process_of("4e5f6a7b"),
        closed=7,
    )


def ledger_of(done: Done) -> dict[str, object]:
    """The ledger of an answer."""
    ledger = answer_of(done)["ledger"]
    assert isinstance(ledger, dict)
    return ledger


def test_half_a_line_at_the_end_of_a_live_file_waits_for_its_rest(own_desk: Desk) -> None:
    """The proxy is writing it now: it is neither a row nor bad."""
    writer = writer_of(own_desk)
    writer.live(writer.call(20_000)[:200])
    ledger = ledger_of(own_desk.meshml("why", "last", "--json"))
    assert (ledger["rows"], ledger["quarantined"]) == (CALLS, 0)


def test_half_a_line_at_the_end_of_a_closed_file_is_counted(own_desk: Desk) -> None:
    """Its sidecar was killed in mid-line; the answer is given all the same."""
    writer = writer_of(own_desk)
    writer.close(writer.call(20_000)[:200], at=T0 + 30 * SECOND)
    ledger = ledger_of(own_desk.meshml("why", "last", "--json"))
    assert (ledger["rows"], ledger["quarantined"]) == (CALLS, 1)


NOISE = {
    "random bytes": os.urandom(4096).replace(b"\n", b"\x00") + b"\n",
    "zeros": b"\x00" * 100_000 + b"\n",
    "broken utf-8": b'{"_record":"call","path":"\xff\xfe"}\n',
    "another program's JSON": b'{"level":"info","msg":"hello"}\n',
    "a list": b"[1,2,3]\n",
    "a call without a time": b'{"_record":"call","_type":"DownstreamEnd","method":"GET"}\n',
    "a number beyond 64 bits": Writer(logs=Path(), process_id=process_of("4e5f6a7b"))
    .call(20_000)
    .replace(b'"bytes_in":null', b'"bytes_in":1e30'),
    "a whole number beyond 64 bits": Writer(logs=Path(), process_id=process_of("4e5f6a7b"))
    .call(20_000)
    .replace(b'"bytes_in":null', b'"bytes_in":18446744073709551615'),
    "deep nesting": b"[" * 50_000 + b"\n",
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_in_a_file_is_counted_and_the_answer_given(own_desk: Desk, name: str) -> None:
    """One bad line, and every good line around it."""
    writer = writer_of(own_desk)
    writer.close(writer.call(19_000), NOISE[name], writer.call(19_100), at=T0 + 30 * SECOND)
    done = own_desk.meshml("why", "last", "--json")
    ledger = ledger_of(done)
    assert (ledger["rows"], ledger["quarantined"]) == (CALLS + 2, 1)


def test_strange_files_in_the_log_folder_are_passed_over(own_desk: Desk) -> None:
    """Somebody's notes, an editor's copy, a name that is nearly ours."""
    closed = own_desk.logs / "churn-training-4e5f6a7b" / "closed"
    (closed / "20261399T000000.000000Z-1.jsonl").write_text("noise\n")
    (closed / "notes.txt").write_text("remember the milk\n")
    (own_desk.logs / "README.md").write_text("logs\n")
    (own_desk.logs / "not-a-sidecar").mkdir()
    (own_desk.logs / "a-file-for-live").mkdir()
    (own_desk.logs / "a-file-for-live" / "live").write_text("")
    ledger = ledger_of(own_desk.meshml("why", "last", "--json"))
    assert (ledger["rows"], ledger["quarantined"]) == (CALLS, 0)


# --- the page -------------------------------------------------------------------------------------


def test_the_page_is_written_where_it_was_asked_for(own_desk: Desk) -> None:
    """Folders on the way are made, and the answer says where it is."""
    done = own_desk.meshml("why", "last", "--html", "reports/slow run.html")
    page = (own_desk.folder / "reports" / "slow run.html").read_text(encoding="utf-8")
    assert done.status == 0
    assert page.lower().startswith("<!doctype html>")
    assert "labels-v2" in page
    assert "report: reports/slow run.html" in done.out


@pytest.mark.parametrize("place", [".", "mlflow.db/page.html", "/proc/page.html"])
def test_a_page_that_cannot_be_written_is_an_error_of_ours(desk: Desk, place: str) -> None:
    """A folder, a file where a folder must be, a place that takes no files."""
    done = desk.meshml("why", "last", "--html", place)
    assert_refused(done, f"could not write the page to {place}: ", "--html")


def test_the_page_is_attached_to_the_run(own_desk: Desk) -> None:
    """``--log`` puts it where the run's other artifacts are; nothing else is printed."""
    run_id = own_desk.runs["slow"]
    done = own_desk.meshml("why", run_id, "--log", "--quiet")
    assert (done.status, done.err) == (0, "")
    from mlflow import MlflowClient

    client = MlflowClient(own_desk.store)
    (found,) = client.list_artifacts(run_id, "meshml")
    place = Path(unquote(urlsplit(client.get_run(run_id).info.artifact_uri).path))
    assert found.path == "meshml/why.html"
    assert "labels-v2" in (place / found.path).read_text(encoding="utf-8")


def test_a_store_that_takes_no_page_is_named(desk: Desk, tmp_path: Path) -> None:
    """A recording has runs and no artifacts."""
    runs = [{"run_id": desk.runs["slow"], "name": "x", "experiment_id": "1", "status": "FINISHED"}]
    file = tmp_path / "runs.json"
    file.write_text(json.dumps([one | {"start_time": T0, "end_time": T0 + 1} for one in runs]))
    assert_refused(desk.meshml("why", "last", "--tracking", f"runs:{file}", "--log"), "runs:")


# --- output ---------------------------------------------------------------------------------------


def test_standard_output_is_only_the_answer(desk: Desk) -> None:
    """Progress goes to standard error, and ``--quiet`` takes it away."""
    loud, quiet = desk.meshml("why", "last"), desk.meshml("why", "last", "--quiet")
    assert loud.out == quiet.out
    assert (loud.err, quiet.err) == ("reading the log folder\n", "")


def test_the_json_is_one_object(desk: Desk) -> None:
    """Also with ``--evidence`` and ``--html``, a pipe into another program works."""
    done = desk.meshml("why", "last", "--json", "--evidence", "--html", "page.html")
    assert answer_of(done)["run_id"] == desk.runs["slow"]


def test_the_causes_are_explained_without_any_run(tmp_path: Path) -> None:
    """Every cause that the answer promises, in a folder that has nothing."""
    done = Desk(folder=tmp_path, runs={}).meshml("why", "--causes")
    assert (done.status, done.err) == (0, "")
    assert [cause for cause in CAUSES if f" {cause} " not in done.out.replace("\n", " ")] == []
    assert list(tmp_path.iterdir()) == []


def test_the_causes_come_as_json(tmp_path: Path) -> None:
    """One object: cause and what it means."""
    told = answer_of(Desk(folder=tmp_path, runs={}).meshml("why", "--causes", "--json"))
    assert set(CAUSES) <= told.keys()


def next_line(done: Done) -> str:
    """What an answer says can be typed next."""
    assert done.status == 0, done.err
    return done.out.splitlines()[-1].partition("next: ")[2]


def test_the_next_line_can_be_pasted(desk: Desk) -> None:
    """It gives the same answer, with the evidence."""
    done = desk.meshml("why", "last")
    pasted = desk.shell(next_line(done))
    assert (pasted.status, pasted.out[: len(done.out)]) == (0, done.out)
    assert "request id" in pasted.out


def test_the_next_line_repeats_what_it_needs(desk: Desk, tmp_path: Path) -> None:
    """Typed elsewhere with options, it finds the same run, logs and lake."""
    given = ["--tracking", desk.store, "--logs", str(desk.logs)]
    given += ["--state", str(tmp_path / "my state"), "--lake", "main.mesh"]
    done = desk.meshml("why", "last", *given, cwd=tmp_path)
    assert shlex.split(next_line(done))[4:] == [
        *("--state", str(tmp_path / "my state"), "--logs", str(desk.logs)),
        *("--lake", "main.mesh", "--tracking", desk.store),
    ]
    pasted = Desk(folder=tmp_path, runs={}).shell(next_line(done))
    assert (pasted.status, pasted.out[: len(done.out)]) == (0, done.out)


def test_the_next_line_repeats_nothing_that_the_shell_already_says(desk: Desk) -> None:
    """Variables stay in the shell, and a state folder brings what is in it."""
    state = str(desk.folder / ".meshml")
    by_variable = desk.meshml("why", "last", MESHML_STATE=state, MLFLOW_TRACKING_URI=desk.store)
    assert next_line(by_variable) == f"meshml why {desk.runs['slow'][:6]} --evidence"
    by_option = desk.meshml("why", "last", "--state", state)
    assert shlex.split(next_line(by_option))[4:] == ["--state", state]


# --- what it needs --------------------------------------------------------------------------------


def test_a_live_answer_needs_no_spark_pandas_or_mlflow(desk: Desk) -> None:
    """A base install answers from the log folder."""
    code = (
        "import sys\n"
        "for name in ('pyspark', 'delta', 'pandas', 'mlflow', 'sqlalchemy', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['meshml', 'why', 'last', '--live', '--html', 'base.html', '--json']\n"
        "from meshml_dbx.cli import main\nmain()\n"
    )
    assert answer_of(desk.python("-c", code))["verdict"] == "mesh"


def test_ten_thousand_calls_are_answered_in_one_go(
    own_desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command, process start included; how long it took is printed, not judged."""
    begin = T0 + 1_000 * SECOND
    writer = write_log(own_desk.logs, "abababab", begin, 60, calls=10_000)
    run_id = store_run(own_desk.folder, "long", begin, 700, process_of("abababab"))
    began = time.perf_counter()
    done = own_desk.meshml("why", run_id, "--live", "--json")
    took = time.perf_counter() - began
    with capsys.disabled():
        print(f"\nwhy --live on 10,000 calls: {took:.2f} s")  # noqa: T201  # a measurement
    ledger = ledger_of(done)
    assert (ledger["rows"], ledger["lost"]) == (10_000, 0)
    assert writer.folder.closed.is_dir()
