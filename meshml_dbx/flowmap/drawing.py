"""What a picture consists of: boxes, curves and headings, placed, with texts that fit.

The layouts make a ``Drawing`` of a ``FlowMap``; the template draws it. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshml_dbx.flowmap.fit import BOLD, fitting_parts, wrap

NAME_SIZE, DETAIL_SIZE = 14.0, 12.5
LINE_HEIGHT = 18.0
PADDING = 12.0
MARK_WIDTH = 8.0
THINNEST_LINK, THINNEST_MARKED = 1.5, 5.0
HEADER_HEIGHT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One rectangle with a name, its numbers, and the whole story as its title."""

    x: float
    y: float
    width: float
    height: float
    names: tuple[str, ...]
    details: tuple[str, ...]
    title: str
    marked: bool = False

    @property
    def lines(self) -> tuple[tuple[float, str, bool], ...]:
        """Each line's baseline, text, and whether it is part of the name."""
        texts = [(text, True) for text in self.names] + [(text, False) for text in self.details]
        top = self.y + (self.height - LINE_HEIGHT * len(texts)) / 2 + 13.5
        return tuple((top + LINE_HEIGHT * i, text, name) for i, (text, name) in enumerate(texts))

    @property
    def hatch(self) -> str:
        """The strokes that mark a box also for those who do not see its colour."""
        steps = range(int((self.height - 4 - MARK_WIDTH) // 6) + 1)
        return " ".join(
            f"M{self.x + 2:g} {self.y + 2 + MARK_WIDTH + 6 * step:g}l{MARK_WIDTH:g} {-MARK_WIDTH:g}"
            for step in steps
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line between two boxes, as wide as its share of the calls."""

    path: str
    width: float
    title: str = ""
    marked: bool = False
    waiting: bool = False
    """Nothing has come back over it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The name of a column."""

    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """All that a template draws; marked curves come last, so that they lie on top."""

    width: float
    height: float
    boxes: tuple[Box, ...] = ()
    curves: tuple[Curve, ...] = ()
    headings: tuple[Heading, ...] = ()
    note: str = ""


def box_of(
    name: str,
    *,
    x: float,
    y: float,
    width: float,
    details: Sequence[Sequence[str]],
    title: str,
    marked: bool,
) -> Box:
    """A box as tall as its lines: the name on as many as it needs, then the details."""
    room = width - 2 * PADDING - (MARK_WIDTH if marked else 0)
    names = wrap(name, size=NAME_SIZE * BOLD, width=room)
    return Box(
        x=x,
        y=y,
        width=width,
        height=10 + LINE_HEIGHT * (len(names) + len(details)),
        names=names,
        details=tuple(fitting_parts(line, size=DETAIL_SIZE, width=room) for line in details),
        title=title,
        marked=marked,
    )
