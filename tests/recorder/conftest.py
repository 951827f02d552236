"""What most tests of the recorder start from: a recording that goes on, and a service to call."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recorder.answering import AnsweringServer, answering
from tests.recorder.recorded import Recorded, recorded
from tests.small_pki import Authority


@pytest.fixture
def log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Recorded]:
    """A recording that goes on, and meets nothing that it cannot record."""
    with recorded(tmp_path) as log:
        yield log
    assert [one for one in caplog.records if one.name.startswith("meshml_dbx")] == []


@pytest.fixture(scope="module")
def server() -> Iterator[AnsweringServer]:
    """A service that answers as its paths say."""
    with answering() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who issues the certificates of services here."""
    return Authority(tmp_path_factory.mktemp("pki"), "corp")
