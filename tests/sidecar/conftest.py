"""What the tests of the sidecar share: an Envoy, looked up once, and an upstream server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshml_dbx.errors import MissingToolError
from meshml_dbx.sidecar import EnvoyBinary, find_envoy
from tests.sidecar.sidecar_lab import Upstream, upstream


@pytest.fixture(scope="session")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> EnvoyBinary:
    """The Envoy of this machine; tests that need it are skipped where there is none."""
    try:
        return find_envoy(os.environ, cache=tmp_path_factory.mktemp("cache"))
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture
def server() -> Iterator[Upstream]:
    """An upstream server."""
    with upstream() as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder's root."""
    return tmp_path / "state"
