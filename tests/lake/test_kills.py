"""Killed in the middle of a batch, again and again: in the end every line is there, once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from meshml_dbx.lake.tables import TableNames, open_lake
from tests.lake.conftest import Lab
from tests.lake.foreign_lines import JSON, TCP, line, put
from tests.lake.writing import NOON, SECOND

pytestmark = [pytest.mark.spark, pytest.mark.timeout(3600)]

CHILD = Path(__file__).with_name("ingest_child.py")
CALLS = 300
FOREIGN_CALLS = 200
LONGEST_WAIT_S = 20.0
"""An ingest of these files takes about so long: kills fall anywhere in it."""

START_TIMEOUT_S = 400.0


def start_child(lab: Lab) -> "subprocess.Popen[str]":
    """An ingest that waits with Spark up, in a process group of its own."""
    arguments = (lab.root / "lake", lab.logs, lab.root / "checkpoint")
    with (lab.root / "child.log").open("a") as log:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    timer = threading.Timer(START_TIMEOUT_S, kill_group, [child])
    timer.start()
    said = child.stdout.readline() if child.stdout else ""
    timer.cancel()
    assert said == "ready\n", (lab.root / "child.log").read_text()[-2000:]
    return child


def kill_group(child: "subprocess.Popen[str]") -> None:
    """Kill the process and its JVM at once, as a machine that loses its power does."""
    os.killpg(child.pid, signal.SIGKILL)


def ingest_and_kill(lab: Lab, after_s: float) -> bool:
    """Whether the ingest was cut off: it is killed so long after it began, unless it was faster."""
    child = start_child(lab)
    write(child.stdin)
    time.sleep(after_s)
    kill_group(child)
    done = "done" in (child.stdout.read() if child.stdout else "")
    child.wait()
    return not done


def write(stream: IO[str] | None) -> None:
    """Let the waiting ingest begin."""
    assert stream is not None
    stream.write("go\n")
    stream.flush()


def write_files(lab: Lab, part: int) -> None:
    """Four more files: calls, attempts, a tunnel, stages, a bad number and a bad line."""
    for number in range(4):
        writer = lab.writer(sidecar_id=f"churn-{part:04x}{number:04x}")
        for call in range(CALLS):
            request_id = f"{part}-{number}-{call}"
            writer.call(NOON + call * SECOND, request_id=request_id)
            writer.attempt(NOON + call * SECOND, request_id)
        writer.call(NOON, request_id=f"{part}-{number}-text", bytes_in="7")
        writer.call(NOON, method="CONNECT")
        writer.stage("begin", NOON, f"stage-{part}-{number}")
        writer.mesh(NOON)
        writer.close(extra=b"half a li")


def write_foreign_files(lab: Lab, part: int) -> None:
    """Two more files of others: one ends in JSON and has a bad line, one came by another road."""
    lines = [line(call % 60, request=f"f{part}-{call}") for call in range(FOREIGN_CALLS)]
    twin = line(7, code=503, request=f"twin-{part}")
    put(lab, "volume", part, *lines, twin, twin, JSON.format(second=part), "no access line", TCP)
    put(lab, "cloudwatch", part, twin, twin, *reversed(lines))


def check_foreign(lab: Lab, parts: int) -> None:
    """Every call of those files is a row, once; twins are two, a bad line is kept."""
    foreign = lab.table("calls").where("format IS NOT NULL").select("request_id")
    ids = [row["request_id"] for row in foreign.collect()]
    twins = [one for one in ids if one.startswith("twin-")]
    assert (len(ids), len(set(ids))) == (parts * (FOREIGN_CALLS + 3), parts * (FOREIGN_CALLS + 2))
    assert len(twins) == 2 * parts
    assert lab.count("connections") == 1
    assert lab.table("quarantine").where("sidecar_id = 'volume'").count() == parts
    done = lab.table("log_files").where("state = 'done'")
    took = done.agg({"duplicates": "sum", "ended": "sum", "connections": "sum"}).collect()[0]
    duplicates, ended, connections = (
        took[f"sum({n})"] for n in ("duplicates", "ended", "connections")
    )
    assert (ended, connections) == (parts * (2 * FOREIGN_CALLS + 5), parts)
    assert duplicates == ended + connections - len(ids) - 1


def check_all(lab: Lab, parts: int) -> None:
    """Every line of all files of ours is in its one place, once."""
    files = 4 * parts
    ours = "sidecar_id LIKE 'churn-%'"
    found = {
        name: lab.table(name).where(ours).count()
        for name in ("calls", "attempts", "tunnels", "run_stages", "quarantine", "mesh_versions")
    }
    assert found == {
        "calls": files * (CALLS + 1),
        "attempts": files * CALLS,
        "tunnels": files,
        "run_stages": files,
        "quarantine": files,
        "mesh_versions": 1,
    }
    calls = lab.table("calls").where(ours)
    assert calls.select("request_id").distinct().count() == found["calls"]
    edges = lab.table("edges").where("client = 'churn'").agg({"calls": "sum"}).first()
    assert edges is not None
    assert edges[0] == found["calls"]
    rows = lab.table("ledger").where(ours).agg({"rows": "sum"}).collect()[0][0]
    assert rows == found["calls"]


def kill_often(lab: Lab, kills: int, seed: int) -> int:
    """Files come, ingests are killed at moments of chance; how many were really cut off."""
    chance = random.Random(seed)
    cut_off = 0
    for part in range(kills):
        write_files(lab, part)
        write_foreign_files(lab, part)
        cut_off += ingest_and_kill(lab, chance.uniform(0.3, LONGEST_WAIT_S))
    lab.ingest()
    return cut_off


def test_three_kills(lab: Lab) -> None:
    """Three ingests killed in mid-batch, then one that is not: nothing is lost or doubled."""
    cut_off = kill_often(lab, kills=3, seed=int(time.time()))
    check_all(lab, parts=3)
    check_foreign(lab, parts=3)
    assert cut_off, "no kill came in time: the test proves nothing"
    assert lab.ingest().files == 0


@pytest.mark.soak
def test_twenty_kills(lab: Lab) -> None:
    """As before, twenty times over one lake."""
    cut_off = kill_often(lab, kills=20, seed=int(time.time()))
    check_all(lab, parts=20)
    check_foreign(lab, parts=20)
    assert cut_off >= 10


def forget_last_commit(table: Path) -> None:
    """Take back the last thing that was written to a table, as if it had not come to it."""
    last = max((table / "_delta_log").glob("*.json"))
    for path in (last, last.with_name(f".{last.name}.crc"), last.with_suffix(".crc")):
        path.unlink(missing_ok=True)


def test_a_batch_cut_off_between_two_writes(lab: Lab) -> None:
    """A batch that had written some tables only is done again: what is missing is added, no more.

    Also with a new checkpoint: what the lake has begun it does not forget.
    """
    write_files(lab, 0)
    lab.ingest()
    shutil.copytree(lab.root / "lake", lab.root / "cut-off")
    for name in ("log_files", "ledger", "quarantine", "tunnels", "attempts"):
        forget_last_commit(lab.root / "cut-off" / name)
    names = open_lake(lab.spark, TableNames.of(lab.root / "cut-off"))
    cut_off = replace(lab, names=names)
    assert (cut_off.count("attempts"), cut_off.count("calls")) == (0, 4 * (CALLS + 1))
    report = cut_off.ingest(checkpoint="another")
    check_all(cut_off, parts=1)
    assert (report.files, report.quarantined) == (4, 4)
    assert cut_off.ingest(checkpoint="another").files == 0


def test_a_foreign_batch_cut_off_between_two_writes(lab: Lab) -> None:
    """As ours: what is missing is added, whichever of the tables had been written."""
    write_foreign_files(lab, 0)
    lab.ingest()
    check_foreign(lab, parts=1)
    for place, tables in (("a", ("quarantine", "connections")), ("b", ("calls", "connections"))):
        shutil.copytree(lab.root / "lake", lab.root / place)
        for name in ("log_files", "ledger", *tables):
            forget_last_commit(lab.root / place / name)
        cut_off = replace(lab, names=open_lake(lab.spark, TableNames.of(lab.root / place)))
        report = cut_off.ingest(checkpoint=f"checkpoint-{place}")
        check_foreign(cut_off, parts=1)
        assert (report.files, report.duplicates) == (2, FOREIGN_CALLS + 2)
