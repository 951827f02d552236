"""The route picture as text: SVG, and HTML that shows the form that fits the reader's width.

Goes in: a ``FlowMap``. Comes out: markup without scripts, references or identifiers, so that many
of them can stand in one notebook. Colours follow the page's ``--mm-…`` variables where it sets
them, else the reader's light or dark theme; blame is also told by stripes and words.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from meshml_dbx.flowmap.columns import lay_out_columns
from meshml_dbx.flowmap.drawing import MARK_WIDTH, PADDING, Drawing
from meshml_dbx.flowmap.graph import FlowMap
from meshml_dbx.flowmap.tree import lay_out_tree
from meshml_dbx.flowmap.words import counted, name_of, story_of

TITLE = "Which way the calls went: client, virtual service, route, target"


def to_svg(flow: FlowMap) -> str:
    """The picture in four columns, for a page at least 860 pixels wide.

    >>> to_svg(FlowMap()).startswith("<svg")
    True
    """
    return _draw(flow, lay_out_columns(flow), kind="wide")


def to_narrow_svg(flow: FlowMap) -> str:
    """The same as a tree of 360 units' width, for a telephone or a narrow cell."""
    return _draw(flow, lay_out_tree(flow), kind="narrow")


def to_html(flow: FlowMap) -> str:
    """Both pictures, of which the one that fits the reader's width is shown."""
    template = _templates().get_template("flow.html.jinja")
    return template.render(wide=Markup(to_svg(flow)), narrow=Markup(to_narrow_svg(flow)))  # noqa: S704  # both were escaped by the template that made them


def describe(flow: FlowMap) -> str:
    """The picture in words, for those who do not see it."""
    marked = [
        story_of(" → ".join(name_of(place) for place in path.places), path.numbers)
        for path in flow.paths
        if path.marked
    ]
    drawn = counted(len(flow.paths), "path")
    return (
        f"{drawn}. Culprit: {'; '.join(marked)}." if marked else f"{drawn}, none of them a culprit."
    )


def _draw(flow: FlowMap, drawing: Drawing, *, kind: str) -> str:
    return (
        _templates()
        .get_template("flow.svg.jinja")
        .render(
            drawing=drawing,
            kind=kind,
            title=TITLE,
            description=describe(flow),
            padding=PADDING,
            mark_width=MARK_WIDTH,
        )
    )


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("meshml_dbx.flowmap"), autoescape=True, undefined=StrictUndefined
    )
