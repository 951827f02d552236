"""The report page: what it says, that it is safe and self-contained, and how it looks."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meshml_dbx.diagnosis import Diagnosis, diagnose
from meshml_dbx.diagnosis.report import (
    MOST_BYTES,
    marked_paths,
    render_fragment,
    render_page,
    waits_by_path,
)
from meshml_dbx.flowmap import flow_of, to_html
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns, Evidence, Ledger
from meshml_dbx.traffic.program_log import Stage
from tests.diagnosis.browser import dump_dom, measure, needs_browser
from tests.diagnosis.sample import (
    BEGIN,
    SECOND,
    refused_evidence,
    sample_evidence,
    sample_run,
    stuck_evidence,
)

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "\u202etxt.exe",
    "{{ 7 * 7 }}",
    "nul\x00 surrogate\ud800",
    "</style></pre></svg>",
    "y" * 20_000,
)


class Page(HTMLParser):
    """The elements, attributes and text of a page, and whether every element was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that closes itself, as SVG's do."""
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """An element ends; it must be the innermost open one."""
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        """Text, that of style sheets left out."""
        if self.open and self.open[-1] != "style":
            self.text += f"{data} "

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())


def page_of(evidence: Evidence) -> str:
    """The page of a run, its picture included."""
    diagnosis = diagnose(evidence)
    return render_page(diagnosis, evidence, picture=picture_of(diagnosis, evidence))


def fragment_of(evidence: Evidence) -> str:
    """The same for a notebook's cell."""
    diagnosis = diagnose(evidence)
    return render_fragment(diagnosis, evidence, picture=picture_of(diagnosis, evidence))


def picture_of(diagnosis: Diagnosis, evidence: Evidence) -> str:
    """The picture of a run's routes."""
    flow = flow_of(
        evidence.calls,
        in_flight=evidence.in_flight,
        waits=waits_by_path(diagnosis),
        marked=marked_paths(diagnosis),
    )
    return to_html(flow)


def empty_evidence() -> Evidence:
    """A run of which nothing was recorded."""
    return Evidence(run=sample_run(), read_at=BEGIN, calls=CallColumns.of([]))


def hostile_evidence(name: str) -> Evidence:
    """A run in which everything that a program or a mesh file can name is called this."""
    calls = [
        Call(
            type="DownstreamEnd",
            start_time=BEGIN + number * SECOND // 10,
            observer="egress",
            sidecar_id=name,
            client=name,
            request_id=f"{number}{name}",
            method="GET",
            path=name,
            pattern=f"{name}{number}",
            virtual_service=f"{name}{number % 40}",
            route=name,
            target=name,
            stage=name,
            code=503,
            flags="UF",
            upstream_failure=name,
            upstream_host=name,
            total_us=90_000,
            attempts=2,
        )
        for number in range(200)
    ]
    stages = [
        Stage(stage=f"{name}{i}", stage_id=str(i), process_id="p", start_time=BEGIN + i * SECOND)
        for i in range(40)
    ]
    return Evidence(
        run=replace(sample_run(), name=name, status=name),
        read_at=BEGIN + 20 * SECOND,
        calls=CallColumns.of(calls),
        in_flight=tuple(replace(one, type="DownstreamPeriodic") for one in calls[:60]),
        stages=tuple(stages),
        not_seen=(name,) * 50,
        ledger=Ledger(lost=3, explained=(name,) * 50),
    )


ALL = {
    "slow": sample_evidence,
    "stuck": stuck_evidence,
    "refused": refused_evidence,
    "empty": empty_evidence,
}


@pytest.mark.parametrize("kind", ALL)
def test_every_page_is_whole_light_and_alone(kind: str) -> None:
    """A page closes what it opens, weighs under 1 MB, has no script and refers to nothing."""
    text = page_of(ALL[kind]())
    page = Page(text)
    references = [value for key, value in page.attributes if key in {"src", "href", "action"}]
    assert (page.unbalanced, page.open, references) == ([], [], [])
    assert "script" not in page.tags
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert len(text.encode()) <= MOST_BYTES


def test_the_answer_comes_first() -> None:
    """The only first heading is the diagnosis' own sentence."""
    evidence = sample_evidence()
    text = page_of(evidence)
    headings = re.findall(r"<h1>(.*?)</h1>", text)
    assert headings == [diagnose(evidence).sentence.replace("'", "&#39;")]
    assert "labels-v2 is to blame (slow upstream)" in headings[0]


def test_the_culprit_comes_with_numbers_reason_and_advice() -> None:
    """The culprit's card has its wait, p95, the healthy p95, why, what to do, and the query."""
    evidence = sample_evidence()
    culprit = diagnose(evidence).culprits[0]
    words = Page(page_of(evidence)).words
    expected = [
        f"waited {culprit.wait_s:.1f} s",
        f"p95 {culprit.p95_ms:.0f} ms",
        f"p95 when healthy {culprit.baseline_p95_ms:.0f} ms",
        "What to do: Look at that service's program and host",
        "labels-v1 on the same route is healthy",
        "SELECT c.start_time",
    ]
    assert [said for said in expected if said not in words] == []


def test_the_sections_are_there_in_order() -> None:
    """A page leads from the answer to the rows, then to what was not seen."""
    sections = re.findall(r'<section aria-label="([^"]+)">', page_of(stuck_evidence()))
    assert sections == [
        "Culprits",
        "In flight now",
        "Timeline",
        "Wait by service",
        "Routes",
        "Evidence",
        "Coverage",
        "Ledger",
        "Next",
    ]


def test_the_worst_rows_are_the_culprits() -> None:
    """At most fifty calls are shown, the culprit's first, each with its request id."""
    text = page_of(sample_evidence())
    table = text.partition('aria-label="Calls, table"')[2].partition("</table>")[0]
    rows = table.partition("<tbody>")[2].split("<tr>")[1:]
    ranked = [row for row in rows if 'class="rank">1<' in row]
    assert (len(rows), rows[: len(ranked)] == ranked, len(ranked) >= 25) == (50, True, True)
    assert all("labels-v2" in row and re.search(r"[0-9a-f-]{36}", row) for row in ranked)


def test_a_call_in_flight_stands_near_the_top() -> None:
    """A stuck call is shown with its age, stage and request id."""
    words = Page(page_of(stuck_evidence())).words
    assert "12.0 s GET /v1/score/{} scoring.ml.local scoring scoring 0f0e0d0c-1111" in words


def test_a_refused_connection_is_shown_with_its_reason() -> None:
    """The refusing side, the peer and the reason of a refused handshake are on the page."""
    words = Page(page_of(refused_evidence())).words
    assert "labels-v2 127.0.0.1:40112 spiffe://ml/other TLS_error:" in words


def test_what_was_not_seen_is_said() -> None:
    """A gap of the evidence is on the page, and so is lost traffic."""
    evidence = replace(
        sample_evidence(), not_seen=("the last second",), ledger=Ledger(proxied=500, lost=96)
    )
    words = Page(page_of(evidence)).words
    assert ("Not seen: the last second" in words, "lost 96" in words) == (True, True)


def test_a_run_without_calls_has_a_page() -> None:
    """Nothing recorded is an answer too, with the line that records the next run."""
    words = Page(page_of(empty_evidence())).words
    assert "No call of this run was recorded" in words
    assert "meshml run --mesh mesh.yml" in words


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    """Whatever a name holds, it adds no element, runs nothing, and the page stays whole."""
    text = page_of(hostile_evidence(name))
    page, usual = Page(text), Page(page_of(hostile_evidence("plain")))
    assert (page.unbalanced, page.open) == ([], [])
    assert set(page.tags) <= set(usual.tags) | {"details", "summary"}
    assert [key for key, _ in page.attributes if key.startswith("on")] == []
    assert len(text.encode("utf-8")) <= MOST_BYTES


def test_the_drawings_are_well_formed() -> None:
    """Every SVG of the page is XML, and every number in a path is finite."""
    drawings = re.findall(r"<svg.*?</svg>", page_of(sample_evidence()), re.DOTALL)
    for drawing in drawings:
        for one in ElementTree.fromstring(drawing).iter():  # noqa: S314  # our own output
            assert not re.search("nan|inf", one.get("d", ""))
    assert len(drawings) > 10


def test_every_header_cell_has_a_scope() -> None:
    """Tables name their columns for readers that hear them."""
    text = page_of(stuck_evidence())
    assert len(re.findall(r"<th ", text)) == len(re.findall(r'<th scope="col"', text)) > 10
    assert "<th>" not in text


def test_the_picture_is_marked_by_the_same_keys() -> None:
    """The waits for the picture add up to the run's, and the culprit's path is one of them."""
    diagnosis = diagnose(sample_evidence())
    waits = waits_by_path(diagnosis)
    assert marked_paths(diagnosis) == {("labels.ml.local", "by-day", "labels-v2")}
    assert marked_paths(diagnosis) <= set(waits)
    assert sum(waits.values()) == pytest.approx(diagnosis.wait_s)


def test_the_fragment_touches_nothing_around_it() -> None:
    """Each rule of the fragment's style sheet is below its own class, and it brings no page."""
    fragment = fragment_of(sample_evidence())
    styles = "".join(re.findall(r"<style>(.*?)</style>", fragment, re.DOTALL))
    rules = re.sub(r"@(media|container)[^{]*\{", "", styles)
    selectors = [s.strip() for rule in re.findall(r"([^{}]+)\{", rules) for s in rule.split(",")]
    assert [one for one in selectors if not one.startswith(".meshml-")] == []
    assert not {"html", "head", "body", "main"} & set(Page(fragment).tags)
    assert "id" not in dict(Page(fragment).attributes)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_contrast(theme: int) -> None:
    """Each text colour stands out from each ground it is used on by 4.5 or more, in both themes."""
    evidence = empty_evidence()
    blocks = re.findall(r"\.meshml-report\{(--mm-paper[^}]+)\}", page_of(evidence))
    colours = dict(pair.split(":") for pair in blocks[theme].split(";"))
    used = [("ink", "paper"), ("ink", "box"), ("ink", "tint"), ("ink", "code"), ("dim", "paper")]
    used += [("dim", "box"), ("accent", "paper"), ("accent", "tint"), ("paper", "accent")]
    weak = {
        pair: ratio
        for pair in used
        if (ratio := contrast(colours[f"--mm-{pair[0]}"], colours[f"--mm-{pair[1]}"])) < 4.5
    }
    assert weak == {}


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours as the accessibility guidelines define it."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of ``#rrggbb``."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@needs_browser
def test_nothing_sticks_out_on_a_narrow_screen(tmp_path: Path) -> None:
    """At 400 pixels no page scrolls sideways, not even with a name of twenty thousand letters."""
    made = [make() for make in ALL.values()] + [hostile_evidence("y" * 20_000)]
    found = measure([(page_of(evidence), 400) for evidence in made], folder=tmp_path)
    assert [(one.width, one.needed, one.overflowing) for one in found] == [(400, 400, 0)] * 5


@needs_browser
def test_the_picture_stays_readable(tmp_path: Path) -> None:
    """At every width the letters of the picture are shown at 11 pixels or more."""
    page = page_of(sample_evidence())
    found = measure([(page, 400), (page, 800), (page, 1280)], folder=tmp_path)
    assert [11 <= one.smallest_px < 20 for one in found] == [True] * 3


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_follows_the_readers_theme(tmp_path: Path, *, dark: bool) -> None:
    """A frame without scripts shows the page styled, dark for whoever reads in the dark."""
    (found,) = measure([(page_of(sample_evidence()), 1280)], folder=tmp_path, dark=dark)
    papers = {False: "rgb(255, 255, 255)", True: "rgb(20, 23, 27)"}
    assert (found.width, found.needed, found.paper) == (1280, 1280, papers[dark])


@needs_browser
def test_the_fragment_lives_in_a_frame_that_allows_scripts_only(tmp_path: Path) -> None:
    """In such a frame storage and cookies throw; the page needs neither and shows its answer."""
    fragment = fragment_of(sample_evidence())
    tell = "<script>parent.postMessage(document.querySelector('h1').innerText, '*')</script>"
    inner = (fragment + tell).replace("&", "&amp;").replace('"', "&quot;")
    listen = "<script>onmessage = (e) => { document.body.innerHTML = e.data }</script>"
    frame = f'{listen}<body><iframe sandbox="allow-scripts" srcdoc="{inner}"></iframe></body>'
    told = dump_dom(frame, folder=tmp_path)
    assert "labels-v2 is to blame" in told.partition("<body>")[2]
    assert "<iframe" not in told
