"""A local Spark session that can read and write Delta, and plain words for why there is none.

Goes in: where jars and tables may lie. Comes out: the session; where one is running already, as on
Databricks, that one, untouched. No Java, a wrong one, a cut-down one and a missing jar all end in
the same JAVA_GATEWAY_EXITED once Spark starts, so they are told apart before.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from meshml_dbx.errors import JavaError, LakeError, MissingToolError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OLDEST_JAVA = 17
VECTOR_MODULE = "jdk.incubator.vector"
INSTALL_JAVA = "install a full JDK 17 or 21 (Debian: apt-get install openjdk-17-jdk-headless)"
INSTALL_LOCAL = 'pip install "meshml_dbx[local]"'
JAVA_TIMEOUT_S = 60
UNRESOLVED = "unresolved dependency"
"""What Ivy says of a jar that it neither has nor finds."""
DEFAULT_IVY = Path.home() / ".ivy2.5.2"

SETTINGS: Mapping[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # As on Databricks; else saveAsTable means parquet and collides with Delta tables.
    "spark.sql.sources.default": "delta",
    # By default every Delta snapshot runs 50 tasks: ten rows then take ten seconds.
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.shuffle.partitions": "2",
    # A batch is thirty small queries: planning each again while it runs takes a third of the time.
    "spark.sql.adaptive.enabled": "false",
    # What it infers of a hundred columns made of each other takes minutes, and finds nothing.
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.dataFrameQueryContext.enabled": "false",
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
}
BRIEF_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""For a session of a few minutes over little data: half of its time goes into compiling, and the
quick compiler's code is good enough. By itself that compiler has room for a third of Spark's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaJar:
    """The Delta jar that fits the installed pyspark, as Maven knows it.

    >>> DeltaJar(spark="4.2.0", delta="4.4.0").coordinate
    'io.delta:delta-spark_4.2_2.13:4.4.0'
    """

    spark: str
    delta: str

    @property
    def artifact(self) -> str:
        """The artifact's name; it carries Spark's version since Delta 4.1."""
        since = tuple(int(part) for part in self.delta.split(".")[:2])
        spark = ".".join(self.spark.split(".")[:2])
        return "delta-spark_2.13" if since < (4, 1) else f"delta-spark_{spark}_2.13"

    @property
    def coordinate(self) -> str:
        """What ``spark.jars.packages`` takes."""
        return f"io.delta:{self.artifact}:{self.delta}"

    def is_cached(self, ivy: Path) -> bool:
        """Whether it was fetched before, so that no network is needed."""
        return (ivy / "jars" / f"io.delta_{self.artifact}-{self.delta}.jar").is_file()


def local_session(
    *,
    warehouse: Path | None = None,
    ivy: Path | None = None,
    memory: str = "4g",
    cores: int = 2,
    log: Path | None = None,
    brief: bool = False,
) -> "SparkSession":
    """The running session, untouched, else a new one on this machine with Delta in it.

    ``ivy`` is where jars are cached, ``warehouse`` where Spark may drop files of its own. What
    Java prints goes to the file ``log``, else to where our own output goes. ``brief``: little is
    to be done, so Java need not make its code as fast as it can.

    Raises:
        MissingToolError: pyspark, delta-spark or the Delta jar is not there.
        JavaError: no Java, a wrong one, or one without the parts that Spark needs.
        LakeError: Spark did not start, for another reason.
    """
    jar = installed_jar()
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        return SparkSession.active()
    except PySparkRuntimeError:  # none is running
        pass
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return SparkSession.builder.getOrCreate()
    check_java(os.environ)
    # Workers would run whatever python3 is on PATH, which need not have our packages.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder
    options = {
        **SETTINGS,
        "spark.master": f"local[{cores}]",
        "spark.app.name": "meshml",
        "spark.jars.packages": jar.coordinate,
        "spark.driver.memory": memory,
        "spark.sql.warehouse.dir": str(warehouse or tempfile.mkdtemp(prefix="meshml-warehouse-")),
        **({"spark.jars.ivy": str(ivy)} if ivy else {}),
    }
    if brief:
        options["spark.driver.extraJavaOptions"] += f" {BRIEF_JAVA}"
    for name, value in options.items():
        builder = builder.config(name, value)
    try:
        if log is not None:
            _start_java(options, log)
        return builder.getOrCreate()
    except Exception as error:
        raise explain_start(error, jar, ivy or DEFAULT_IVY, log) from error


def _start_java(options: Mapping[str, str], log: Path) -> None:
    """Start the Java that the session will find, with its output in a file.

    Jar resolution and Java's own warnings, a hundred lines, come before any logger is set up.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._active_spark_context is not None:
        return
    conf = SparkConf().setAll(list(options.items()))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        gateway = launch_gateway(conf, {"stdout": output, "stderr": output})
    SparkContext(conf=conf, gateway=gateway)


def installed_jar() -> DeltaJar:
    """The Delta jar that the installed packages ask for.

    Raises:
        MissingToolError: pyspark or delta-spark is not installed.
    """
    try:
        return DeltaJar(spark=version("pyspark"), delta=version("delta-spark"))
    except PackageNotFoundError as error:
        raise MissingToolError(
            f"the lake needs {error.name}, which is not installed", advice=INSTALL_LOCAL
        ) from error


def check_java(environ: Mapping[str, str]) -> None:
    """Nothing when Spark can start on the Java that it will find.

    Raises:
        JavaError: what is wrong with it, and what to install.
    """
    java = find_java(environ)
    found = _ask(java, "-version")
    matched = re.search(r'version "(\d+)(?:\.(\d+))?', found)
    if not matched:
        raise JavaError(f"{java} is no Java: it answered {found[:80]!r}", advice=INSTALL_JAVA)
    major = int(matched[2] or 0) if matched[1] == "1" else int(matched[1])
    if major < OLDEST_JAVA:
        raise JavaError(
            f"{java} is Java {major}; Spark needs {OLDEST_JAVA} or newer", advice=INSTALL_JAVA
        )
    if VECTOR_MODULE not in _ask(java, "--list-modules"):
        raise JavaError(
            f"{java} is a cut-down Java {major}: it lacks the module {VECTOR_MODULE}",
            advice=INSTALL_JAVA,
        )


def find_java(environ: Mapping[str, str]) -> str:
    """The Java that Spark's start script would run.

    Raises:
        JavaError: there is none, or JAVA_HOME names a folder without one.
    """
    home = environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if os.access(java, os.X_OK):
            return str(java)
        raise JavaError(
            f"JAVA_HOME is {home}, but there is no bin/java in it",
            advice=f"unset JAVA_HOME or point it at a JDK; or {INSTALL_JAVA}",
        )
    found = shutil.which("java", path=environ.get("PATH", ""))
    if found is None:
        raise JavaError("Spark needs Java, and there is no java on PATH", advice=INSTALL_JAVA)
    return found


def _ask(java: str, option: str) -> str:
    """What Java prints; ``-version`` goes to standard error."""
    try:
        done = subprocess.run(
            [java, option], capture_output=True, text=True, timeout=JAVA_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaError(f"{java} cannot be run: {error}", advice=INSTALL_JAVA) from error
    return done.stdout + done.stderr


def explain_start(
    error: Exception, jar: DeltaJar, ivy: Path, log: Path | None = None
) -> MissingToolError | LakeError:
    """Why Spark did not start, Java being in order; ``log`` has what Java said."""
    said = log.read_text(encoding="utf-8", errors="replace") if log and log.is_file() else ""
    if UNRESOLVED in said or not (said or jar.is_cached(ivy)):
        return MissingToolError(
            f"Spark could not fetch Delta's jar {jar.coordinate}, and has no copy of it",
            advice="connect once to a network with Maven Central, or name a folder that has the "
            "jar in spark.jars.ivy",
        )
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    where = f"see what Java said in {log}" if said else "see Spark's own lines above"
    return LakeError(f"Spark did not start: {reason}", advice=where)
