"""The route picture as text: well formed, escaped, readable, and not by colour alone."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from meshml_dbx.flowmap import FlowMap, flow_of, to_html, to_narrow_svg, to_svg
from meshml_dbx.flowmap.fit import BOLD, width_of
from meshml_dbx.traffic.evidence import CallColumns
from tests.flowmap.made_calls import LABELS, call, thirty_services

Draw = Callable[[FlowMap], str]
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "\u202etxt.exe",
    "שירות-תוויות",
    "标签服务" * 30,
    "nul\x00 bell\x07 surrogate\ud800",
    "a" * 10_000,
    "]]>&amp;",
)


def two_targets() -> FlowMap:
    """A route with a culprit and a healthy target."""
    calls = [call(ms=950) for _ in range(4)] + [call(target="labels-v1") for _ in range(9)]
    return flow_of(CallColumns.of(calls), waits={LABELS: 8.3}, marked={LABELS})


def texts(svg: str) -> list[str]:
    """What the picture says in its lines of text."""
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  # our own output


@pytest.mark.parametrize("draw", [to_svg, to_narrow_svg])
@pytest.mark.parametrize("flow", [FlowMap(), two_targets(), flow_of(thirty_services())])
def test_every_picture_is_well_formed_and_named(draw: Draw, flow: FlowMap) -> None:
    """A picture is XML, an image to assistive tools, and has a title and a description."""
    root = ElementTree.fromstring(draw(flow))  # noqa: S314  # our own output
    assert (root.get("role"), root[0].tag, root[1].tag) == ("img", f"{SVG}title", f"{SVG}desc")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    """Whatever a name holds, it adds no element and no attribute, and the text can be encoded."""
    names = {"virtual_service": name, "route": name, "target": name, "client": name}
    flow = flow_of(CallColumns.of([call(**names)]), marked={(name, name, name)})  # type: ignore[arg-type]  # four of its arguments
    for svg in (to_svg(flow), to_narrow_svg(flow)):
        svg.encode("utf-8")
        root = ElementTree.fromstring(svg)  # noqa: S314  # our own output
        known = {"svg", "title", "desc", "style", "text", "path", "g", "rect"}
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= known
        assert not [key for one in root.iter() for key in one.attrib if key.startswith("on")]


def test_long_names_do_not_make_the_picture_heavy() -> None:
    """Forty paths whose every name has ten thousand letters draw less than 300 kB."""
    long = "x" * 10_000
    calls = [call(virtual_service=f"{i}{long}", route=long, target=f"{long}{i}") for i in range(60)]
    assert len(to_html(flow_of(CallColumns.of(calls)))) < 300_000


@pytest.mark.parametrize("draw", [to_svg, to_narrow_svg])
def test_every_line_fits_its_box(draw: Draw) -> None:
    """No text is wider than its box, by the widths of the widest common font."""
    root = ElementTree.fromstring(draw(flow_of(thirty_services())))  # noqa: S314  # our own output
    overflowing = []
    for box in root.iter(f"{SVG}g"):
        rect = box.find(f"{SVG}rect")
        assert rect is not None
        right = float(rect.get("x", "")) + float(rect.get("width", ""))
        for line in box.iter(f"{SVG}text"):
            size = 14 * BOLD if line.get("class") == "name" else 12.5
            if float(line.get("x", "")) + width_of(line.text or "", size) > right:
                overflowing.append(line.text)
    assert overflowing == []


@pytest.mark.parametrize("draw", [to_svg, to_narrow_svg])
def test_the_culprit_is_told_by_words_and_strokes_too(draw: Draw) -> None:
    """Who sees no colour finds the culprit by a word, a hatched box and a striped line."""
    svg = draw(two_targets())
    marked = [one for one in texts(svg) if "culprit" in one]
    assert (len(marked), svg.count('class="hatch"'), 'class="stripes"' in svg) == (1, 1, True)


def test_the_description_names_the_culprit_with_its_numbers() -> None:
    """A reader who hears the picture hears the culprit's path, wait and p95."""
    root = ElementTree.fromstring(to_svg(two_targets()))  # noqa: S314  # our own output
    assert root[1].text == (
        "2 paths. Culprit: churn-training → labels.ml.local → by-day → labels-v2:"
        " 8.3 s in 4 calls, p95 950 ms."
    )


def test_a_line_is_as_wide_as_its_share_of_the_calls() -> None:
    """The line with three times the calls is three times as wide."""
    calls = [call(target="labels-v1")] * 3 + [call(target="labels-v2")]
    root = ElementTree.fromstring(to_svg(flow_of(CallColumns.of(calls))))  # noqa: S314  # our own output
    widths = {
        (one.findtext(f"{SVG}title") or "").partition(":")[0]: float(one.get("stroke-width", ""))
        for one in root.iter(f"{SVG}path")
    }
    assert widths["by-day → labels-v1"] == 3 * widths["by-day → labels-v2"]


def test_pictures_can_stand_side_by_side() -> None:
    """A picture has no identifiers and no references, so that two in one notebook do not meet."""
    html = to_html(two_targets())
    assert re.findall(r"\bid=|url\(|href=|@import|<script", html) == []


def test_paths_that_are_not_drawn_are_counted() -> None:
    """The narrow picture says how many paths it left out."""
    assert texts(to_narrow_svg(flow_of(thirty_services())))[-1] == (
        "and 14 paths with less wait, not drawn"
    )


def test_an_empty_picture_says_so() -> None:
    """Without calls there is one sentence and nothing else."""
    assert texts(to_svg(FlowMap())) == ["No call crossed the mesh in this run."]
