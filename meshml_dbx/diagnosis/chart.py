"""The timeline as paths and percentages: what the page's template draws, computed on the server.

Goes in: a ``Timeline``. Comes out: paths in a plot of 1000 by 100 units that stretches to the
reader's width, while every text stays a text of the page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from meshml_dbx.diagnosis.timeline import Band, Timeline

WIDTH, HEIGHT = 1000.0, 100.0
SECOND_US = 1_000_000
HEADROOM = 1.12
STRIPE_DISTANCE = 8.0
MOST_TICKS_X, MOST_TICKS_Y = 8, 4
NICE = (1, 2, 5)
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark of an axis, in percent from its begin (left or top)."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnBand:
    """A stage's stretch, in percent of the run's time."""

    stage: str
    left: float
    width: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """All that the template needs to draw a timeline."""

    lanes: tuple[tuple[DrawnBand, ...], ...]
    all_area: str
    blamed_area: str
    stripes: str
    most_line: str
    grid_y: tuple[float, ...]
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]
    has_calls: bool
    has_blamed: bool
    label: str
    caption: str


def chart_of(timeline: Timeline) -> Chart:
    """The chart of a timeline."""
    highest = max([*timeline.all_calls.most, 1])
    top = highest * HEADROOM
    edges = _edges(timeline)
    levels = [level for level in _ticks(highest, MOST_TICKS_Y) if level and level.is_integer()]
    seconds = timeline.span / 1e6
    return Chart(
        lanes=_lanes(timeline.bands, timeline.span),
        all_area=_area(timeline.all_calls.mean, edges, top),
        blamed_area=_area(timeline.culprits.mean, edges, top),
        stripes=_stripes(timeline.culprits.mean, edges, top),
        most_line=_line(timeline.all_calls.most, edges, top),
        grid_y=tuple(_y(level, top) for level in levels),
        ticks_x=_time_ticks(seconds),
        ticks_y=tuple(Tick(at=_y(n, top), text=f"{n:g}") for n in levels),
        has_calls=any(timeline.all_calls.most),
        has_blamed=any(timeline.culprits.mean),
        label=f"Calls in flight over {seconds:.1f} s: at most {highest} at once",
        caption=_caption(timeline),
    )


def step_text(step_us: int) -> str:
    """The length of a step in a plain unit.

    >>> step_text(25_000), step_text(2_000_000), step_text(500)
    ('25 ms', '2 s', '0.5 ms')
    """
    return f"{step_us / 1e6:g} s" if step_us >= SECOND_US else f"{step_us / 1e3:g} ms"


def _time_ticks(seconds: float) -> tuple[Tick, ...]:
    """Round moments in the largest unit that the run fills at least three times."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= 3 * size), UNITS[-1])
    length = seconds / size
    return tuple(
        Tick(at=100 * tick / length, text=f"{tick:g} {unit}")
        for tick in _ticks(length, MOST_TICKS_X)
    )


def _caption(timeline: Timeline) -> str:
    left_out = timeline.bands_left_out
    more = f" {left_out} further stretches of stages are not drawn." if left_out else ""
    return (
        f"Each step is {step_text(timeline.step)}: the area is the mean of the calls in flight in"
        f" it, the line the most at any moment of it, both exact over all calls.{more}"
    )


def _edges(timeline: Timeline) -> tuple[float, ...]:
    """Where each step begins, and where the last one ends."""
    count = len(timeline.all_calls.mean)
    return tuple(WIDTH * min(i * timeline.step / timeline.span, 1.0) for i in range(count + 1))


def _y(level: float, top: float) -> float:
    return HEIGHT * (1 - level / top)


def _area(levels: Sequence[float], edges: Sequence[float], top: float) -> str:
    """A closed step curve; nothing at all where every level is 0."""
    if not any(levels):
        return "M0 100"
    return f"M0 100{_steps(levels, edges, top)}V100Z"


def _line(levels: Sequence[float], edges: Sequence[float], top: float) -> str:
    return f"M0 100{_steps(levels, edges, top)}V100"


def _steps(levels: Sequence[float], edges: Sequence[float], top: float) -> str:
    """Up or down to each level, then on to the end of the last step that has it."""
    parts = []
    for level, group in groupby(enumerate(levels), key=lambda pair: pair[1]):
        last = max(index for index, _ in group)
        parts.append(f"V{_y(level, top):.4g}H{edges[last + 1]:.5g}")
    return "".join(parts)


def _stripes(levels: Sequence[float], edges: Sequence[float], top: float) -> str:
    """Upright strokes within an area, so that its shade is not told by colour alone."""
    parts = ["M0 100"]
    x, step = 0.0, 0
    while x < WIDTH and levels:
        while step < len(levels) - 1 and edges[step + 1] <= x:
            step += 1
        if levels[step] > 0:
            parts.append(f"M{x:g} 100V{_y(levels[step], top):.4g}")
        x += STRIPE_DISTANCE
    return "".join(parts)


def _ticks(highest: float, at_most: int) -> Iterator[float]:
    """Round numbers from 0 to the highest, not more than so many."""
    power = 1e-6
    step = power
    while highest / step > at_most:
        step = next((power * n for n in NICE if highest / (power * n) <= at_most), power * NICE[-1])
        power *= 10
    tick = 0.0
    while tick <= highest:
        yield round(tick, 6)
        tick += step


def _lanes(bands: Sequence[Band], span: int) -> tuple[tuple[DrawnBand, ...], ...]:
    ordered = sorted(bands, key=lambda band: (band.lane, band.start))
    return tuple(
        tuple(_drawn(band, span) for band in lane)
        for _, lane in groupby(ordered, key=lambda band: band.lane)
    )


def _drawn(band: Band, span: int) -> DrawnBand:
    return DrawnBand(
        stage=band.stage,
        left=100 * band.start / span,
        width=100 * (band.end - band.start) / span,
        text=f"{band.start / 1e6:.1f} s to {band.end / 1e6:.1f} s",
    )
