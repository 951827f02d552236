"""The lake counts the ways that were used as the log folder does."""

import pytest

from meshml_dbx.lake import usage as stored
from meshml_dbx.recording import usage as recorded
from tests.lake.conftest import Lab
from tests.lake.writing import NOON, SECOND

pytestmark = pytest.mark.spark


def test_the_lake_and_the_log_folder_agree(lab: Lab) -> None:
    """Both give the same usages of the same calls, foreign hosts and the time limit included."""
    writer = lab.writer()
    for number in range(5):
        writer.call(NOON + number)
    writer.call(NOON + SECOND, virtual_service=None, authority="Example.org", target=None)
    writer.close()
    lab.ingest()
    for since in (0, NOON + 3):
        expected, _ = recorded.read_usages(lab.logs, since=since)
        found = stored.read_usages(lab.spark, lab.names, since=since)
        assert sorted(found, key=repr) == sorted(expected, key=repr)
        assert len(found) == 2
