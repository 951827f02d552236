"""``meshml ingest`` as a person types it: what it says, what it needs, and what is missing."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import meshml_dbx
from tests.desk import CALLS, Desk, make_desk
from tests.small_mesh import Done

OURS = 3
DELTA_JAR = "io.delta:delta-spark_4.2_2.13:4.4.0"
DEAD_PORT = "9"
"""The discard port, at which nothing answers: the network of a machine that has none."""

REPEATABLE = (
    *("run_id", "run_name", "status", "duration_s", "wait_s", "verdict", "baseline"),
    *("culprits", "in_flight", "ledger"),
)


@pytest.fixture(scope="module")
def desk(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk that no test ingests."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(empty_mlflow_store, folder / "mlflow.db")
    return make_desk(folder)


def assert_refused(done: Done, *words: str) -> None:
    """One message with these words and its next step; no traceback, nothing on standard output."""
    assert (done.status, done.out) == (OURS, ""), done.err
    lines = [line for line in done.err.splitlines() if line != "starting Spark"]
    assert lines[0].startswith("error: "), done.err
    assert [line[:8] for line in lines[1:]] == ["  next: "]
    assert [word for word in words if word not in done.err] == []


# --- what is missing ------------------------------------------------------------------------------


def test_no_log_folder(desk: Desk, tmp_path: Path) -> None:
    """It is named before Spark is started, and nothing is made."""
    done = desk.meshml("ingest", "--logs", str(tmp_path / "none"))
    assert_refused(done, f"the log folder {tmp_path / 'none'} cannot be read", "--logs")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_log_folder(desk: Desk, tmp_path: Path) -> None:
    """There is nothing to ingest yet, and the advice says how to record a run."""
    done = desk.meshml("ingest", "--logs", str(tmp_path))
    assert_refused(done, f"the log folder {tmp_path} is empty", "meshml run --client NAME")


def fake_java(folder: Path, version: str) -> Path:
    """A folder whose ``java`` answers with a version, and with no module."""
    folder.mkdir(parents=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return folder


JAVAS: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "none": (lambda folder: {"PATH": str(folder)}, "there is no java on PATH"),
    "old": (
        lambda folder: {"PATH": str(fake_java(folder / "bin", "11.0.1"))},
        "is Java 11; Spark needs 17 or newer",
    ),
    "very old": (
        lambda folder: {"PATH": str(fake_java(folder / "bin", "1.8.0_402"))},
        "is Java 8; Spark needs 17 or newer",
    ),
    "cut down": (
        lambda folder: {"PATH": f"{fake_java(folder / 'bin', '21.0.2')}:/usr/bin:/bin"},
        "is a cut-down Java 21: it lacks the module jdk.incubator.vector",
    ),
    "wrong home": (
        lambda folder: {"JAVA_HOME": str(folder), "PATH": os.environ["PATH"]},
        "but there is no bin/java in it",
    ),
    "another program": (
        lambda folder: {"PATH": str(fake_java(folder / "bin", "banana"))},
        "is no Java",
    ),
}


@pytest.mark.parametrize("name", JAVAS)
def test_a_java_that_spark_cannot_use(desk: Desk, tmp_path: Path, name: str) -> None:
    """All of them look alike once Spark starts; each has a message of its own before."""
    make, message = JAVAS[name]
    variables = {"JAVA_HOME": "", **make(tmp_path)}
    done = desk.meshml("ingest", cwd=desk.folder, **variables)
    assert_refused(done, message, "install a full JDK 17 or 21")


def site_without(folder: Path, *left_out: str) -> Path:
    """The packages of this environment but some, as an installation without them would have."""
    folder.mkdir()
    found = [Path(path) for path in sys.path if Path(path).name == "site-packages"]
    for entry in (entry for site in found for entry in site.iterdir()):
        name = entry.name.lower().replace("_", "-")
        if not name.startswith(left_out) and not (folder / entry.name).exists():
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.parametrize("package", ["pyspark", "delta"])
def test_a_package_that_is_not_installed(desk: Desk, tmp_path: Path, package: str) -> None:
    """A base install has no Spark: the message names the package and the extra that brings it."""
    site = site_without(tmp_path / "site", package)
    root = Path(meshml_dbx.__file__).parents[1]
    done = desk.python(
        *("-S", "-m", "meshml_dbx", "ingest"), PYTHONPATH=f"{root}{os.pathsep}{site}"
    )
    assert_refused(done, f"the lake needs {package}", 'pip install "meshml_dbx[local]"')


@pytest.mark.spark
def test_a_jar_that_cannot_be_had(desk: Desk, tmp_path: Path) -> None:
    """No copy in the home folder and no network: the jar is named, not Java."""
    proxies = [
        f"-D{it}.proxyHost=127.0.0.1 -D{it}.proxyPort={DEAD_PORT}" for it in ("http", "https")
    ]
    options = " ".join([f"-Duser.home={tmp_path}", *proxies])
    done = desk.meshml(
        "ingest",
        "--state",
        str(tmp_path / "s"),
        "--logs",
        str(desk.logs),
        "--tracking",
        desk.store,
        JAVA_TOOL_OPTIONS=options,
    )
    assert_refused(done, f"could not fetch Delta's jar {DELTA_JAR}", "spark.jars.ivy")
    assert "unresolved dependency" in (tmp_path / "s" / "spark.log").read_text()


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.spark
@pytest.mark.timeout(1500)
def test_ingest_then_why_from_the_lake(empty_mlflow_store: Path, tmp_path: Path) -> None:
    """Finished files arrive once, ``why`` answers from the lake as from the logs, all is calm."""
    shutil.copy(empty_mlflow_store, tmp_path / "mlflow.db")
    desk = make_desk(tmp_path)
    first = desk.meshml("ingest")
    assert (first.status, "Exception" in first.out + first.err) == (0, False), first.err
    told, following = first.out.splitlines()
    assert told.startswith("ingested: files ")
    assert f" ended {2 * CALLS + 1} " in f"{told} "
    assert following == "next: meshml why last"
    assert first.err.splitlines() == [
        "starting Spark",
        "asking living sidecars to finish their files, taking over those of dead ones",
        "reading finished log files into Delta, joined with their runs",
    ]
    from_lake = desk.meshml("why", "last", "--json")
    assert (from_lake.status, from_lake.err) == (0, "reading the lake\nstarting Spark\n")
    live = desk.meshml("why", "last", "--json", "--live")
    answers = [json.loads(done.out) for done in (from_lake, live)]
    assert [{name: it[name] for name in REPEATABLE} for it in answers[:1]] == [
        {name: it[name] for name in REPEATABLE} for it in answers[1:]
    ]
    again = desk.meshml("ingest", "--json", "--quiet", "--all-runs")
    assert (again.status, again.err) == (0, "")
    assert {name for name, count in json.loads(again.out).items() if count} == set()
