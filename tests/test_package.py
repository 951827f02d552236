"""The public face is closed, small, and costs nothing to import."""

import subprocess
import sys

import pytest

import meshml_dbx

HEAVY = ("pyspark", "mlflow", "numpy", "jinja2", "orjson", "yaml", "click", "rich", "cryptography")


def test_the_public_names_are_few_and_there() -> None:
    """At most fifteen names, and each one resolves."""
    assert len(meshml_dbx.__all__) <= 15
    assert [name for name in meshml_dbx.__all__ if not hasattr(meshml_dbx, name)] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy imports do not swallow typing errors."""
    with pytest.raises(AttributeError, match="no attribute 'whyy'"):
        _ = meshml_dbx.whyy


def test_importing_the_package_imports_no_dependency() -> None:
    """A cluster that imports the package pays for nothing that it does not use."""
    code = f"import sys, meshml_dbx; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_needs_neither_spark_nor_mlflow() -> None:
    """`meshml --help` works in a base install."""
    code = (
        "import sys\nfor name in ('pyspark','mlflow','pandas','sklearn'): sys.modules[name]=None\n"
        "sys.argv=['meshml','--help']\nfrom meshml_dbx.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "meshml why last" in done.stdout) == (0, True)
