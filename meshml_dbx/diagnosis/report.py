"""The page that answers why a run was slow, as a file of its own or as a notebook's cell.

Goes in: the diagnosis, the evidence it was made of, and the picture of the routes. Comes out: HTML
of bounded size without scripts, storage or references to anything outside it. Names and paths are
whatever a program or a mesh file chose: the templates escape them all.
"""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from meshml_dbx.diagnosis.diagnosis import Diagnosis
from meshml_dbx.diagnosis.sections import LEGEND, sections_of
from meshml_dbx.diagnosis.sheet import Path
from meshml_dbx.traffic.evidence import Evidence

MOST_BYTES = 1_000_000
"""What a page may weigh: notebooks cut off cells that hold more than a few of these."""

SHORT = 160
"""How many characters of a text are shown where the template says nothing else."""

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_page(diagnosis: Diagnosis, evidence: Evidence, *, picture: str) -> str:
    """The page as one HTML file.

    Args:
        diagnosis: the answer.
        evidence: what it was made of.
        picture: the routes as trusted markup, see ``marked_paths`` and ``waits_by_path``.
    """
    fragment = render_fragment(diagnosis, evidence, picture=picture)
    title = f"Why was {diagnosis.run_name} slow? Run {diagnosis.run_id}"
    return _render("page.html.jinja", title=title, fragment=Markup(fragment))  # noqa: S704  # escaped by its own template


def render_fragment(diagnosis: Diagnosis, evidence: Evidence, *, picture: str) -> str:
    """The same as a piece of HTML for a notebook's cell: its styles touch nothing around it."""
    return _render(
        "fragment.html.jinja",
        v=sections_of(diagnosis, evidence),
        legend=LEGEND,
        picture=Markup(picture),  # noqa: S704  # trusted markup by contract
    )


def marked_paths(diagnosis: Diagnosis) -> frozenset[Path]:
    """The paths to mark in the picture of the routes: virtual service, route and target."""
    return frozenset((c.virtual_service, c.route or "", c.target or "") for c in diagnosis.blamed)


def waits_by_path(diagnosis: Diagnosis) -> dict[Path, float]:
    """Seconds waited on each path of the picture; they sum to the run's wait."""
    waits: dict[Path, int] = {}
    for row in diagnosis.wait_rows:
        path = (row.virtual_service, row.route or "", row.target or "")
        waits[path] = waits.get(path, 0) + row.wait_us
    return {path: wait / 1e6 for path, wait in waits.items()}


def brief(value: object, length: int = SHORT) -> str:
    """A text of bounded length that any encoding and any parser can hold.

    >>> brief("a" * 9, 5), brief(None)
    ('aaaa…', '-')
    """
    text = "-" if value is None else str(value)
    cut = text if len(text) <= length else f"{text[: length - 1]}…"
    return _NOT_IN_XML.sub("\ufffd", cut)


def _render(template: str, **values: object) -> str:
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("meshml_dbx.diagnosis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["brief"] = brief
    return environment
