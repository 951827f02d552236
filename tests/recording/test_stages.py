"""Stages, as programs write them: real processes, threads and forks, a real folder and lock."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from meshml_dbx.recording.collect import read_records
from meshml_dbx.traffic.program_log import Stage
from tests.log_writing import T0, Writer


def environment(writer: Writer, **more: str) -> dict[str, str]:
    """The environment that a program under ``meshml run`` finds."""
    return {
        **os.environ,
        "MESHML_PROCESS_ID": str(writer.process_id),
        "MESHML_CLIENT": str(writer.client),
        "MESHML_LOGS": str(writer.logs.absolute()),
        "MESHML_SIDECAR_ID": writer.sidecar_id,
        **more,
    }


def run_program(writer: Writer, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A program of that text, run under the variables of ``meshml run``."""
    return subprocess.run(
        [sys.executable, "-c", text],
        env=environment(writer, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """A sidecar's log folder as it stands when the program starts."""
    made = Writer(logs=tmp_path / "logs")
    made.folder.live.mkdir(parents=True)
    return made


def stages_of(writer: Writer) -> dict[str, Stage]:
    """The stages that were recorded, by name."""
    records = read_records(writer.folder)
    assert records.bad_lines == []
    return {stage.stage: stage for stage in records.stages}


def test_a_stage_is_recorded_with_its_process_and_what_it_sent(writer: Writer) -> None:
    """Begin, end, process and the number of calls that the program counted."""
    done = run_program(
        writer,
        "import meshml_dbx\n"
        "with meshml_dbx.stage('training') as part: part.sent = 112\n"
        "with meshml_dbx.stage('scoring') as part: part.count(); part.count(2)\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    stages = stages_of(writer)
    assert {name: stage.sent for name, stage in stages.items()} == {"training": 112, "scoring": 3}
    training = stages["training"]
    assert (training.process_id, training.thread) == (writer.process_id, "MainThread")
    assert training.end_time is not None
    assert training.end_time >= training.start_time > T0 - 10**15


def test_mlflow_is_not_imported_for_a_stage(writer: Writer) -> None:
    """A program without MLflow does not pay for it."""
    done = run_program(
        writer,
        "import sys, meshml_dbx\nwith meshml_dbx.stage('a'): pass\n"
        "print(sorted({'mlflow', 'orjson', 'numpy'} & set(sys.modules)))\n",
    )
    assert done.stdout == "[]\n"


def test_stages_nest_and_inner_ones_end_first(writer: Writer) -> None:
    """Nested stages are two stages, the inner one within the outer one's time."""
    run_program(
        writer,
        "from meshml_dbx import stage\nwith stage('outer'):\n  with stage('inner'): pass\n",
    )
    stages = stages_of(writer)
    outer, inner = stages["outer"], stages["inner"]
    assert outer.start_time <= inner.start_time
    assert (inner.end_time or 0) <= (outer.end_time or 0)


def test_an_exception_ends_the_stage_and_goes_on(writer: Writer) -> None:
    """The program's own error passes through, and the stage has its end."""
    done = run_program(
        writer, "from meshml_dbx import stage\nwith stage('a'): raise ValueError('mine')\n"
    )
    assert done.returncode == 1
    assert "ValueError: mine" in done.stderr
    assert stages_of(writer)["a"].end_time is not None


def test_threads_write_whole_lines_side_by_side(writer: Writer) -> None:
    """Many threads at once: every stage is there, each with its thread's name."""
    run_program(
        writer,
        "import threading\nfrom meshml_dbx import stage\n"
        "def work(n):\n  for i in range(20):\n    with stage(f's{n}-{i}'): pass\n"
        "ts = [threading.Thread(target=work, args=(n,), name=f't{n}') for n in range(8)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]\n",
    )
    stages = stages_of(writer)
    assert len(stages) == 160
    assert stages["s3-7"].thread == "t3"
    assert all(stage.end_time for stage in stages.values())


def test_a_forked_child_has_its_own_stages_and_does_not_end_its_parents(writer: Writer) -> None:
    """A child that unwinds the parent's stage writes no second end; its own are its own."""
    run_program(
        writer,
        "import os, time\nfrom meshml_dbx import stage\n"
        "with stage('parent') as part:\n"
        "  part.sent = 1\n"
        "  child = os.fork()\n"
        "  if child:\n    os.waitpid(child, 0); part.sent = 2\n"
        "  else:\n    with stage('child'): pass\n",
    )
    stages = stages_of(writer)
    assert (stages["parent"].sent, stages["child"].sent) == (2, None)
    lines = [p.read_bytes().splitlines() for p in writer.folder.live.glob("stages-*.jsonl")]
    assert sorted(len(found) for found in lines) == [2, 2]


def test_outside_meshml_run_nothing_is_written_or_said(tmp_path: Path) -> None:
    """Without the variables a stage is nothing at all, and costs next to nothing."""
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import meshml_dbx\nwith meshml_dbx.stage('a') as part: part.count()\n"
            "print(part.sent, meshml_dbx.headers())",
        ],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MESHML_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1 {}\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", [{"MESHML_LOGS": "/nonexistent"}, {"MESHML_SIDECAR_ID": "gone"}])
def test_our_own_trouble_is_said_once_and_never_raised(
    writer: Writer, broken: dict[str, str]
) -> None:
    """A folder that is gone costs the program one line on stderr; no folder is made up."""
    done = run_program(
        writer,
        "from meshml_dbx import stage\nfor _ in range(3):\n  with stage('a'): pass\nprint('on')\n",
        **broken,
    )
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert done.stderr.count("is not recorded") == 1
    assert "Traceback" not in done.stderr
    assert stages_of(writer) == {}


def test_a_count_of_another_kind_of_number_is_recorded(writer: Writer) -> None:
    """Programs of this field count with NumPy's numbers as often as with Python's."""
    run_program(
        writer,
        "import numpy\nfrom meshml_dbx import stage\n"
        "with stage('a') as part: part.sent = numpy.int64(7)\n",
    )
    assert stages_of(writer)["a"].sent == 7


def test_no_line_goes_to_a_file_that_was_closed(writer: Writer) -> None:
    """While files are renamed under the lock, a closed file keeps the size it was closed with."""
    program = "from meshml_dbx import stage\nfor n in range(300):\n  with stage(f's{n}'): pass\n"
    thread = threading.Thread(target=run_program, args=(writer, program))
    thread.start()
    sizes: dict[Path, int] = {}
    while thread.is_alive():
        with (writer.folder.live / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for live in writer.folder.live.glob("stages-*.jsonl"):
                closed = live.rename(writer.close())
                sizes[closed] = closed.stat().st_size
        thread.join(0.005)
    assert len(sizes) > 1
    assert all(path.stat().st_size == size for path, size in sizes.items())
    stages = stages_of(writer)
    assert len(stages) == 300
    assert all(stage.end_time for stage in stages.values())


def test_headers_name_stage_and_client_inside_a_stage(writer: Writer) -> None:
    """Whoever wants exactness sends these; after the stage its name is gone."""
    done = run_program(
        writer,
        "import json\nfrom meshml_dbx import headers, stage\n"
        "with stage('outer'):\n"
        "  with stage('inner'): inner = headers()\n"
        "  outer = headers()\n"
        "print(json.dumps([inner, outer, headers()]))\n",
    )
    client = {"x-meshml-client": "churn-training"}
    assert orjson.loads(done.stdout) == [
        {"x-meshml-stage": "inner"} | client,
        {"x-meshml-stage": "outer"} | client,
        client,
    ]
