"""Why there is no Spark, told apart before it starts: each case has a message of its own."""

import os
from pathlib import Path

import pytest

from meshml_dbx.errors import JavaError, LakeError, MissingToolError
from meshml_dbx.lake.spark import DeltaJar, check_java, explain_start, installed_jar


def fake_java(folder: Path, version: str, modules: str) -> dict[str, str]:
    """An environment whose only java answers so."""
    folder.mkdir(parents=True)
    java = folder / "java"
    java.write_text(
        "#!/bin/sh\n"
        f"[ $1 = --list-modules ] && echo {modules} && exit\n"
        f"echo 'openjdk version \"{version}\"' >&2\n"
    )
    java.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def test_no_java(tmp_path: Path) -> None:
    """Without java on PATH the message says so and what to install."""
    with pytest.raises(JavaError, match="no java on PATH") as told:
        check_java({"PATH": str(tmp_path)})
    assert "install a full JDK" in told.value.advice


def test_a_wrong_java_home(tmp_path: Path) -> None:
    """A JAVA_HOME without a Java in it is named, since Spark would not look elsewhere."""
    with pytest.raises(JavaError, match=f"JAVA_HOME is {tmp_path}"):
        check_java({"JAVA_HOME": str(tmp_path), "PATH": os.environ["PATH"]})


@pytest.mark.parametrize(("version", "major"), [("1.8.0_392", 8), ("11.0.2", 11)])
def test_an_old_java(tmp_path: Path, version: str, major: int) -> None:
    """A Java before 17 is named by its version, in the old and the new way of counting."""
    with pytest.raises(JavaError, match=f"is Java {major}; Spark needs 17"):
        check_java(fake_java(tmp_path / "bin", version, "java.base"))


def test_a_cut_down_java(tmp_path: Path) -> None:
    """A Java without the vector module is said to be cut down."""
    with pytest.raises(JavaError, match=r"cut-down Java 21.*jdk\.incubator\.vector"):
        check_java(fake_java(tmp_path / "bin", "21.0.1", "java.base"))


def test_something_else_called_java(tmp_path: Path) -> None:
    """A program called java that is none is shown with its answer."""
    environ = fake_java(tmp_path / "bin", "", "")
    with pytest.raises(JavaError, match="is no Java"):
        check_java(environ)


def test_a_full_java(tmp_path: Path) -> None:
    """A full JDK passes."""
    check_java(fake_java(tmp_path / "bin", "17.0.15", "jdk.incubator.vector@17.0.15"))


def test_a_jar_that_cannot_be_fetched(tmp_path: Path) -> None:
    """When Spark did not start and the jar is nowhere, the jar is named."""
    told = explain_start(RuntimeError("[JAVA_GATEWAY_EXITED]"), installed_jar(), tmp_path)
    assert isinstance(told, MissingToolError)
    assert installed_jar().coordinate in told.message


def test_any_other_failure(tmp_path: Path) -> None:
    """With the jar in place it is Spark's own trouble, whose first line is passed on."""
    jar = installed_jar()
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / f"io.delta_{jar.artifact}-{jar.delta}.jar").touch()
    told = explain_start(RuntimeError("no memory\nat java"), jar, tmp_path)
    assert isinstance(told, LakeError)
    assert told.message == "Spark did not start: no memory"


def test_the_jar_fits_the_packages() -> None:
    """The artifact's name carries Spark's version since Delta 4.1, and did not before."""
    assert DeltaJar(spark="4.0.1", delta="4.0.0").coordinate == "io.delta:delta-spark_2.13:4.0.0"
    assert DeltaJar(spark="4.2.0", delta="4.4.0").artifact == "delta-spark_4.2_2.13"
