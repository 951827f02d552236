"""The ways out of real definitions: every value ruled on, and every request one that AWS takes."""

from pathlib import Path
from typing import cast

import pytest

from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.mesh.write import mesh_to_yaml
from meshml_dbx.planes.fit import fit
from meshml_dbx.planes.lattice import desired
from meshml_dbx.session import Session
from tests.planes.lattice_model import carried_out, violations
from tests.planes.test_fit import uncovered

CORPORA = Path(__file__).parents[3] / "shared" / "corpora" / "appmesh"
# The other folders hold versions of one resource that need a choice before they are one mesh.
WHOLE = (
    "01-http-headers",
    "02-external-traffic",
    "03-tls-file",
    "04-tls-acm",
    "05-cloudmap",
    "09-grpc-gateway",
    "11-ipv6",
    "13-metrics-extension",
    "14-crossvpc-tls",
    "15-multiple-listeners",
    "18-k8s-http-ingress",
    "19-k8s-mtls-sds",
    "21-k8s-log-format",
    "22-k8s-cloudmap",
)

pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here")


def imported(folder: str) -> Mesh:
    """The mesh of a folder, by the commands that its walkthrough gives where it has some."""
    names = CORPORA / "cli-names.json"
    found = Session().import_mesh([str(CORPORA / folder)], names=names).mesh
    assert found is not None
    return found


@pytest.mark.parametrize("folder", WHOLE)
def test_every_value_of_a_real_mesh_has_one_verdict_on_each_plane(folder: str) -> None:
    """Also where people wrote it, and not a generator."""
    assert uncovered(load_mesh(mesh_to_yaml(imported(folder)), source=folder)) == []


@pytest.mark.parametrize("folder", WHOLE)
def test_a_real_mesh_makes_requests_that_the_api_takes(folder: str) -> None:
    """Fields, lengths, patterns and choices are those of the API's own model."""
    plan = desired(imported(folder)).plan
    assert [wrong for it in carried_out(plan) for wrong in violations(it)] == []


def test_header_routes_lose_their_rules_by_regex_range_and_presence_alone() -> None:
    """Of the walkthrough's seven routes Lattice keeps prefix, method and the catch-all."""
    mesh = imported("01-http-headers")
    left_out = [it.path for it in desired(mesh).problems if it.code == "lattice-rule-left-out"]
    matched = {row.why for row in fit(mesh, ("lattice",)) if row.topic == "header matches"}
    assert len(left_out) == len(cast("tuple[object, ...]", mesh.virtual_routers[0].routes)) - 3
    assert matched == {
        "a rule compares headers by value or prefix, not by regex",
        "a rule compares headers by value or prefix, not by range",
        "a rule cannot ask for the mere presence of a header",
        "a rule cannot ask for the opposite of a header match",
    }
