"""Who talks to whom: the calls of a run as a picture of four columns, left to right.

Goes in: calls, the wait and the blame of each path as plain values. Comes out: a ``FlowMap``, and
of that an SVG or a piece of HTML. Pure.
"""

from meshml_dbx.flowmap.graph import FlowMap, Link, Numbers, Path, Place, Stop, flow_of
from meshml_dbx.flowmap.render import to_html, to_narrow_svg, to_svg

__all__ = [
    "FlowMap",
    "Link",
    "Numbers",
    "Path",
    "Place",
    "Stop",
    "flow_of",
    "to_html",
    "to_narrow_svg",
    "to_svg",
]
