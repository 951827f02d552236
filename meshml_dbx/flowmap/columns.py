"""The picture in four columns, left to right, for a wide page.

Goes in: a ``FlowMap``. Comes out: a ``Drawing`` in which each column stands in the middle of the
height and each line is as wide as its share of the calls. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from meshml_dbx.flowmap.drawing import (
    HEADER_HEIGHT,
    PADDING,
    THINNEST_LINK,
    THINNEST_MARKED,
    Box,
    Curve,
    Drawing,
    Heading,
    box_of,
)
from meshml_dbx.flowmap.graph import COLUMNS, Column, FlowMap, Link, Numbers, Place, Stop
from meshml_dbx.flowmap.words import left_out_text, name_of, story_of, trouble_parts, wait_text

WIDTH = 960.0
BOX_WIDTH, BOX_GAP = 190.0, 14.0
LINK_SPREAD = 30.0

TITLES = {
    "client": "client",
    "virtual_service": "virtual service",
    "route": "route",
    "target": "target",
}


def lay_out_columns(flow: FlowMap) -> Drawing:
    """Up to four columns, each centred, with curves between them."""
    thickness = _thickness(flow.links, LINK_SPREAD)
    drawn = _columns(flow)
    columns = [
        [_stop_box(stop, x, thickness) for stop in flow.stops if stop.place.column == column]
        for column, x in drawn.items()
    ]
    tallest = max((_column_height(column) for column in columns), default=0.0)
    boxes = {place: box for column in columns for place, box in _stacked(column, tallest)}
    return Drawing(
        width=WIDTH,
        height=HEADER_HEIGHT + tallest + (28 if flow.left_out else 6),
        boxes=tuple(boxes.values()),
        curves=_curves(flow.links, boxes, thickness),
        headings=tuple(Heading(x=x, text=TITLES[column]) for column, x in drawn.items()),
        note=left_out_text(flow.left_out),
    )


def _columns(flow: FlowMap) -> dict[Column, float]:
    """The columns that the map has, each with its left edge."""
    used = {stop.place.column for stop in flow.stops}
    columns = [column for column in COLUMNS if column in used]
    step = (WIDTH - BOX_WIDTH - 2) / max(len(columns) - 1, 1)
    return {column: index * step + 1 for index, column in enumerate(columns)}


def _thickness(links: Sequence[Link], spread: float) -> dict[tuple[Place, Place], float]:
    """How wide each link is drawn: its share of all calls."""
    total = max(sum(n.numbers.calls for n in links if n.source.column == "client"), 1)
    return {
        (link.source, link.target): max(
            THINNEST_MARKED if link.marked else THINNEST_LINK, spread * link.numbers.calls / total
        )
        for link in links
    }


def _stop_box(
    stop: Stop, x: float, thickness: Mapping[tuple[Place, Place], float]
) -> tuple[Place, Box]:
    """The stop's box, as yet at the top: tall enough for its lines of text and its links."""
    marked = stop.is_culprit
    box = box_of(
        name_of(stop.place),
        x=x,
        y=0.0,
        width=BOX_WIDTH,
        details=_stop_details(stop.numbers, marked=marked),
        title=story_of(name_of(stop.place), stop.numbers),
        marked=marked,
    )
    sides = [0.0, 0.0]
    for ends, width in thickness.items():
        for side in (0, 1):
            sides[side] += width + 3 if ends[side] == stop.place else 0.0
    return stop.place, replace(box, height=max(box.height, *(side + PADDING for side in sides)))


def _stop_details(numbers: Numbers, *, marked: bool) -> list[list[str]]:
    waited = [[wait_text(numbers)]]
    return [*waited, ["culprit", *trouble_parts(numbers)]] if marked else waited


def _column_height(column: Sequence[tuple[Place, Box]]) -> float:
    return sum(box.height + BOX_GAP for _, box in column) - BOX_GAP if column else 0.0


def _stacked(column: Sequence[tuple[Place, Box]], tallest: float) -> list[tuple[Place, Box]]:
    """The column's boxes one below the other, in the middle of the picture's height."""
    y = HEADER_HEIGHT + (tallest - _column_height(column)) / 2
    placed = []
    for place, box in column:
        placed.append((place, replace(box, y=y)))
        y += box.height + BOX_GAP
    return placed


def _curves(
    links: Sequence[Link],
    boxes: Mapping[Place, Box],
    thickness: Mapping[tuple[Place, Place], float],
) -> tuple[Curve, ...]:
    leaving = _ports([(n.source, n.target) for n in links], boxes, thickness, side=0)
    coming = _ports([(n.source, n.target) for n in links], boxes, thickness, side=1)
    curves = [
        Curve(
            path=_bend(
                boxes[link.source].x + BOX_WIDTH,
                leaving[link.source, link.target],
                boxes[link.target].x,
                coming[link.source, link.target],
            ),
            width=round(thickness[link.source, link.target], 2),
            title=_link_title(link),
            marked=link.marked,
            waiting=not link.numbers.calls,
        )
        for link in links
    ]
    return tuple(sorted(curves, key=lambda curve: curve.marked))


def _ports(
    ends: Sequence[tuple[Place, Place]],
    boxes: Mapping[Place, Box],
    thickness: Mapping[tuple[Place, Place], float],
    *,
    side: int,
) -> dict[tuple[Place, Place], float]:
    """At which height each link meets its box on that side, ordered so that few lines cross."""
    ports: dict[tuple[Place, Place], float] = {}
    for place, box in boxes.items():
        here = sorted(
            (end for end in ends if end[side] == place), key=lambda e: boxes[e[1 - side]].y
        )
        y = box.y + (box.height - sum(thickness[end] + 3 for end in here)) / 2
        for end in here:
            ports[end] = y + (thickness[end] + 3) / 2
            y += thickness[end] + 3
    return ports


def _bend(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (x1 + x2) / 2
    return f"M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"


def _link_title(link: Link) -> str:
    return story_of(f"{name_of(link.source)} → {name_of(link.target)}", link.numbers)
