"""Every code has a small mesh file that shows it, and that a named change mends."""

import pytest

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.finding_codes import CODES
from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.explanations import Explanation, explained_codes, explanation_of
from meshml_dbx.mesh.load import LoadedMesh, load_mesh

NEEDS_NO_EXAMPLE = {"mesh-file-empty", "mesh-file-not-yaml"}
OF_A_MESH = [one for one in explained_codes() if one.number < "MESH100"]
SHOWN = [one for one in OF_A_MESH if one.slug not in NEEDS_NO_EXAMPLE]


def load(text: str) -> LoadedMesh:
    """A text as mesh.yml."""
    return load_mesh(text, source="mesh.yml")


def codes_of(text: str) -> set[str]:
    """The codes of a text's findings."""
    return {found.code for found in check_mesh(load(text))}


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.number)
def test_an_example_shows_its_code(one: Explanation) -> None:
    """Who reads the example sees the very finding, and hears why it matters."""
    assert one.slug in codes_of(one.example)
    assert one.why


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.number)
def test_the_mended_example_does_not(one: Explanation) -> None:
    """The change that is named is enough: the form is right and the finding gone."""
    assert load(one.mended).mesh is not None
    assert one.slug not in codes_of(one.mended)
    assert one.mended != one.example


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.number)
def test_an_example_shows_little_else(one: Explanation) -> None:
    """Noise around the point would hide it; plain text is said of every listener without TLS."""
    beside = codes_of(one.example) - {one.slug, "plaintext"}
    assert beside <= {"listener-timeout"}
    assert len(one.example.splitlines()) < 80


@pytest.mark.parametrize("wanted", ["MESH017", "mesh017", "plaintext", "PLAINTEXT"])
def test_a_code_goes_by_number_and_by_slug(wanted: str) -> None:
    """Whichever of the two somebody copies out of a finding."""
    assert explanation_of(wanted).number == "MESH017"


def test_a_code_that_there_is_not_is_an_error_with_the_closest() -> None:
    """A slip of the pen is answered with what was meant."""
    with pytest.raises(UnknownNameError, match="did you mean plaintext"):
        explanation_of("plaintxt")


def test_numbers_are_never_given_twice() -> None:
    """A number is a promise: it means one thing."""
    numbers = [code.number for code in CODES.values()]
    assert len(set(numbers)) == len(numbers)
    assert [one.number for one in explained_codes()] == sorted(numbers)
