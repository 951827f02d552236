"""What tests of whole commands share: the small mesh, at rest and at work."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshml_dbx.errors import MissingToolError
from meshml_dbx.sidecar import find_envoy
from tests.small_mesh import SmallMesh, make_mesh


@pytest.fixture(autouse=True)
def envoy_or_skip(request: pytest.FixtureRequest) -> None:
    """Skip what needs an Envoy where there is none."""
    if request.node.get_closest_marker("envoy"):
        require_envoy()


@pytest.fixture
def mesh(tmp_path: Path) -> SmallMesh:
    """The small mesh, with nothing running yet."""
    return make_mesh(tmp_path)


@pytest.fixture(scope="session")
def serving_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMesh]:
    """The small mesh with both services behind their sidecars, for as long as the tests last."""
    require_envoy()
    made = make_mesh(tmp_path_factory.mktemp("serving"))
    with made.serve("labels"), made.serve("relay"):
        yield made


def require_envoy() -> None:
    """Skip where no Envoy is found; one that is found but broken is a failure."""
    try:
        find_envoy(os.environ)
    except MissingToolError as error:
        pytest.skip(str(error))
