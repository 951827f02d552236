"""Placeholders: filled with what is given, else named unknowns in the mesh and in one finding."""

import pytest

from meshml_dbx.dialects import Wanted
from meshml_dbx.dialects.found import Parameters
from meshml_dbx.dialects.parameters import fill
from meshml_dbx.dialects.tree import Place, Scalar
from tests.dialects.importing import codes, imported_text

HERE = Place(source="a.yaml", line=3, path="spec.x")


def filled(text: str, *, quoted: bool = False, **given: str) -> object:
    """The value of a text after its placeholders were filled."""
    found = fill(Scalar(value=text, place=HERE, quoted=quoted), Parameters(given=given))
    assert isinstance(found, Scalar)
    return found.value


@pytest.mark.parametrize("text", ["${X}", "{{ X }}", "{{X}}", "{{- .X -}}", "$X", "${X:-other}"])
def test_every_way_to_write_a_placeholder_is_filled(text: str) -> None:
    """Shell's, envsubst's, Helm's and jq's placeholders take the value that is given."""
    assert filled(text, X="value") == "value"


@pytest.mark.parametrize(
    ("text", "stays"),
    [("${X}", "${X}"), ("{{ .Values.x }}", "${Values.x}"), ("$X", "${X}"), ("${X:-y}", "y")],
)
def test_what_has_no_value_is_a_named_unknown(text: str, stays: str) -> None:
    """Every form stays as one and the same, unless it brings a value of its own."""
    assert filled(text) == stays


def test_a_placeholder_may_be_part_of_a_text() -> None:
    """Several in one text are filled one by one."""
    assert filled("${A}-{{ B }}.${C}", A="a", B="b") == "a-b.${C}"


def test_the_type_follows_where_it_stands() -> None:
    """A bare placeholder takes the type of its value; within quotes it is text."""
    assert filled("${PORT}", PORT="80") == 80
    assert filled("${PORT}", PORT="80", quoted=True) == "80"
    assert filled("${A}${B}", A="8", B="0") == "80"


@pytest.mark.parametrize("text", ["^/v1$", "a$b", "%REQ(X)%", "$", "{a}", "US$5"])
def test_a_dollar_of_another_kind_stays(text: str) -> None:
    """Regular expressions and log formats hold dollars and braces of their own."""
    assert filled(text) == text


def test_a_value_that_looks_like_a_placeholder_is_not_filled_again() -> None:
    """What is given is taken as it is."""
    assert filled("${A}", A="$B", B="no") == "$B"


def test_a_filled_value_knows_what_it_was_made_from() -> None:
    """The account of the input holds for the value that the file writes."""
    scalar = Scalar(value="${A}", place=HERE)
    found = fill(scalar, Parameters(given={"A": "a"}))
    assert isinstance(found, Scalar)
    assert (found.origins, found.place) == ((scalar,), HERE)


MESH = """
mesh: {meshName: "${ENV}-ml"}
virtualNodes:
  - virtualNodeName: a-${ENV}
    spec:
      listeners: [{portMapping: {port: $PORT, protocol: http}}]
      serviceDiscovery: {dns: {hostname: "${HOST}"}}
"""


def test_unknowns_are_reported_once_each_with_their_places() -> None:
    """One finding for each name says where it is needed first, and where else."""
    found = imported_text(MESH.replace("$PORT", "80"))
    told = [one for one in found.findings if one.code == "unresolved-parameter"]
    assert [one.where for one in told] == [
        "input.yaml:2 mesh.meshName",
        "input.yaml:7 virtualNodes[0].spec.serviceDiscovery.dns.hostname",
    ]
    assert "ENV has no value; it also stands at input.yaml:4" in told[0].what
    assert found.mesh is not None


def test_an_unknown_where_a_number_belongs_is_an_error() -> None:
    """A named unknown can stand for a text alone."""
    found = imported_text(MESH)
    wrong = [one for one in found.checked if one.code == "wrong-value"]
    assert [one.where for one in wrong] == [
        "input.yaml:6 virtualNodes[0].spec.listeners[0].portMapping.port"
    ]
    assert "--param" in wrong[0].advice
    assert found.mesh is None


def test_a_parameter_that_nothing_asks_for_is_a_warning() -> None:
    """A misspelt name does not vanish."""
    wanted = Wanted(parameters={"ENV": "dev", "PORT": "80", "HOTS": "h"})
    found = imported_text(MESH, wanted=wanted)
    assert codes(found).count("import-unused-parameter") == 1
    assert found.mesh is not None
    assert found.mesh.mesh.mesh_name == "dev-ml"
