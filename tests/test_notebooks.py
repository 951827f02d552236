"""The notebooks are tours: cells that run from the top, one call each, no function defined."""

import ast
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from meshml_dbx.diagnosis import Diagnosis
from meshml_dbx.mesh.load import read_mesh
from meshml_dbx.settings import store_settings
from tests.desk import CALLS, make_desk
from tests.recorder.answering import answering

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
MOST_BYTES = 1_000_000


def code_cells(path: Path) -> list[str]:
    """The Python cells of a notebook in Databricks' source format."""
    cells = path.read_text(encoding="utf-8").split("# COMMAND ----------")
    return [cell for cell in cells if "# MAGIC" not in cell]


@dataclass(slots=True, kw_only=True)
class NotebookHost:
    """What Databricks gives a notebook: widgets, ``display``, and each cell's last value shown.

    ``given`` are the values that a person typed into the widgets.
    """

    given: dict[str, str]
    widgets: dict[str, str] = field(default_factory=dict)
    shown: list[object] = field(default_factory=list)

    def text(self, name: str, default: str, label: str) -> None:
        """Make a text widget."""
        assert label
        self.widgets[name] = self.given.get(name, default)

    def run(self, path: Path, *, own: str = "", own_after: int = 0) -> list[object]:
        """Execute the cells in order, the user's own among them; what they showed."""
        widgets = SimpleNamespace(text=self.text, get=self.widgets.__getitem__)
        names: dict[str, object] = {
            "dbutils": SimpleNamespace(widgets=widgets),
            "display": self.shown.append,
        }
        for number, cell in enumerate(code_cells(path)):
            self._run_cell(ast.parse(cell), f"{path.name}, cell {number}", names)
            if own and number + 1 == own_after:
                self._run_cell(ast.parse(own), "the user's own cell", names)
        return [value for value in self.shown if value is not None]

    def _run_cell(self, cell: ast.Module, where: str, names: dict[str, object]) -> None:
        last = cell.body.pop() if isinstance(cell.body[-1], ast.Expr) else None
        exec(compile(cell, where, "exec"), names)  # noqa: S102  # running it is the test
        if isinstance(last, ast.Expr):
            code = compile(ast.Expression(last.value), where, "eval")
            self.shown.append(eval(code, names))  # noqa: S307  # as above


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_compiles_and_defines_nothing(path: Path) -> None:
    """Logic belongs in the wheel; a notebook only shows it."""
    assert path.read_text(encoding="utf-8").startswith("# Databricks notebook source")
    nodes = [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell))]
    assert not [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda)]


def test_there_is_a_notebook() -> None:
    """The check above sees at least one notebook."""
    assert NOTEBOOKS


@pytest.fixture(scope="module")
def shown(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """What the first tour shows of a slow run, in the order of its cells."""
    folder = tmp_path_factory.mktemp("tour")
    shutil.copy(empty_mlflow_store, folder / "mlflow.db")
    desk = make_desk(folder)
    state = folder / ".meshml"
    store_settings(state, tracking=desk.store)
    host = NotebookHost(given={"state": str(state), "run": desk.runs["slow"]})
    return tuple(host.run(NOTEBOOKS[0]))


def test_the_answer_is_shown_as_a_page(shown: tuple[object, ...]) -> None:
    """A static page of bounded size that names the culprit."""
    answer = shown[0]
    assert isinstance(answer, Diagnosis)
    assert answer.blamed[0].target == "labels-v2"
    page = answer._repr_html_()
    assert "labels-v2" in page
    assert len(page.encode()) <= MOST_BYTES
    assert "<script" not in page


def test_the_waits_add_up(shown: tuple[object, ...]) -> None:
    """As the tour says they do."""
    answer: Diagnosis = shown[0]  # type: ignore[assignment]  # tested above
    waits: pd.DataFrame = shown[1]
    assert waits["wait_s"].sum() == pytest.approx(answer.wait_s)
    assert waits.iloc[0]["target"] == "labels-v2"


def test_the_parts_of_the_calls_are_named(shown: tuple[object, ...]) -> None:
    """Every part that the text lists is a key, and the largest is the one that is to blame."""
    breakdowns: dict[str, dict[str, float]] = shown[2]  # type: ignore[assignment]  # as above
    parts = breakdowns["labels-v2"]
    listed = {"earlier_attempts", "connect", "tls", "pool_wait", "send", "first_byte", "transfer"}
    assert listed <= parts.keys()
    assert max(parts, key=parts.__getitem__) == "first_byte"


def test_the_slowest_calls_come_first(shown: tuple[object, ...]) -> None:
    """Fifty of them, each with what it took."""
    calls: pd.DataFrame = shown[3]
    assert len(calls) == min(CALLS, 50)
    assert calls["duration_us"].is_monotonic_decreasing
    assert set(calls.head(40)["target"]) == {"labels-v2"}
    assert calls["first_byte_us"].notna().all()


def test_the_ledger_is_whole(shown: tuple[object, ...]) -> None:
    """What was sent is what is recorded."""
    ledger: dict[str, object] = shown[-1]  # type: ignore[assignment]  # as above
    told = (ledger["sent"], ledger["proxied"], ledger["rows"], ledger["lost"])
    assert told == (CALLS, CALLS, CALLS, 0)


OWN_CELL = """
import mlflow, requests
mlflow.set_tracking_uri({store!r})
with mlflow.start_run(run_name="mine"):
    with requests.Session() as session:
        for number in range(20):
            session.get({url!r} + f"/kb?page={{number}}&key=secret").raise_for_status()
"""


def test_the_tour_without_a_mesh_records_a_notebook(
    empty_mlflow_store: Path, tmp_path: Path
) -> None:
    """Three lines and the user's own code: every call is in the answer, no query is in a file."""
    shutil.copy(empty_mlflow_store, tmp_path / "mlflow.db")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tour = next(path for path in NOTEBOOKS if path.stem.startswith("02_"))
    store_settings(tmp_path / "state", tracking=store)
    host = NotebookHost(given={"state": str(tmp_path / "state")})
    with answering() as server:
        own = OWN_CELL.format(store=store, url=server.url)
        shown = host.run(tour, own=own, own_after=2)
    answer = next(one for one in shown if isinstance(one, Diagnosis))
    assert answer.run_name == "mine"
    assert answer.ledger.rows == 20
    assert answer.ledger.lost == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*.jsonl"))
    assert b"/kb" in written
    assert b"secret" not in written


@pytest.fixture(scope="module")
def mesh_tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[object, ...]]:
    """The folder that the tour of a mesh writes, and what it shows, in the order of its cells."""
    folder = tmp_path_factory.mktemp("mesh-tour")
    tour = next(path for path in NOTEBOOKS if path.stem.startswith("03_"))
    definitions = tour.parent / "app-mesh"
    host = NotebookHost(given={"definitions": str(definitions), "folder": str(folder)})
    return folder, tuple(host.run(tour))


def test_the_tour_of_a_mesh_shows_what_is_wrong(
    mesh_tour: tuple[Path, tuple[object, ...]],
) -> None:
    """The findings are a table, of the import and of the check, each with its place and advice."""
    of_import: pd.DataFrame = mesh_tour[1][0]
    of_check: pd.DataFrame = mesh_tour[1][2]
    assert list(of_check.columns) == ["code", "severity", "where", "what", "advice"]
    assert set(of_import["severity"]) == {"info"}
    assert {"retry-budget", "unreachable-route"} <= set(of_check["code"])


def test_the_tour_of_a_mesh_tells_every_way_out(
    mesh_tour: tuple[Path, tuple[object, ...]],
) -> None:
    """A column for each plane, and the steps of a plan."""
    fit: pd.DataFrame = mesh_tour[1][4]
    plan: pd.DataFrame = mesh_tour[1][6]
    assert list(fit.columns) == ["where", "self-run Envoy", "VPC Lattice", "ECS Service Connect"]
    assert plan.iloc[0]["kind"] == "service-network"
    assert set(plan["action"]) == {"create"}


def test_the_tour_of_a_mesh_leaves_a_member(mesh_tour: tuple[Path, tuple[object, ...]]) -> None:
    """What it says it rendered is there, beside a mesh file that can be checked again."""
    folder, shown = mesh_tour
    files: tuple[str, ...] = shown[-1]  # type: ignore[assignment]  # the last cell's value
    assert {"README.md", "workload.yaml"} <= set(files)
    assert [name for name in files if not (folder / "rendered" / name).is_file()] == []
    assert read_mesh(folder / "mesh.yml").findings == ()


def test_the_tour_of_a_mesh_can_be_run_again(
    mesh_tour: tuple[Path, tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the same folder, with another question."""
    folder, _ = mesh_tour
    tour = next(path for path in NOTEBOOKS if path.stem.startswith("03_"))
    definitions = tour.parent / "app-mesh"
    url = "http://features.churn.local/v1"
    host = NotebookHost(given={"definitions": str(definitions), "folder": str(folder), "url": url})
    host.run(tour)
    told = capsys.readouterr().out
    assert f"GET {url} of training takes route all" in told
    assert "a month: $39.50" in told


@pytest.mark.spark
def test_the_tour_of_the_lake_shows_what_is_in_it(
    spark: "SparkSession", mlflow_store: Path, tmp_path: Path
) -> None:
    """The sample beside it becomes tables; what each cell shows adds up with the sample."""
    tour = next(path for path in NOTEBOOKS if path.stem.startswith("04_"))
    state = tmp_path / "state"
    store_settings(state, tracking=f"sqlite:///{mlflow_store}")
    place = tour.parent / "access-logs"
    host = NotebookHost(given={"state": str(state), "place": str(place)})
    shown = host.run(tour)
    collected, ingested, kept = (one for one in shown if isinstance(one, dict))
    assert (collected["files"], ingested["ended"], ingested["quarantined"]) == (1, 40, 1)
    services, coverage, costs, books = (
        [row.asDict() for row in one.collect()]  # type: ignore[attr-defined]  # data frames
        for one in shown
        if not isinstance(one, dict)
    )
    assert [row["virtual_service"] for row in services]
    assert sum(row["calls"] for row in services) == 40
    assert sum(row["errors"] for row in services) == 4
    assert sum(row["unowned"] for row in coverage) == 40
    assert costs == []
    assert (books[0]["rows"], books[0]["quarantined"]) == (40, 1)
    assert kept["reasons"][0]["reason"] == "a line of Envoy's own log"
