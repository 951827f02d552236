"""The demo's folder: an earlier demo's files are cleared, somebody else's are not touched."""

from pathlib import Path

import pytest

from meshml_dbx.demo.world import MARK, clear_world, free_ports
from meshml_dbx.errors import MeshMLError


def test_a_folder_that_no_demo_made_is_refused(tmp_path: Path) -> None:
    """A user's own data is never cleared, whatever it is called."""
    theirs = [tmp_path / name for name in ("data.json", "mesh.yml", "mlflow.db", "app.log")]
    for path in theirs:
        path.write_text("mine", encoding="utf-8")
    with pytest.raises(MeshMLError, match="not empty"):
        clear_world(tmp_path)
    assert [path.read_text(encoding="utf-8") for path in theirs] == ["mine"] * 4


def test_a_demos_folder_is_cleared_but_for_strangers(tmp_path: Path) -> None:
    """What the demo writes goes, what it does not know stays."""
    (tmp_path / "logs").mkdir()
    for name in (MARK, "data.json", "report.html", "notes.txt"):
        (tmp_path / name).touch()
    clear_world(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "notes.txt"]


def test_ports_are_different(tmp_path: Path) -> None:
    """No two of the demo's processes get the same port."""
    assert len(set(free_ports(20))) == 20
