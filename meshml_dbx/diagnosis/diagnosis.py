"""The answer to why a run was slow, stuck or failed: frozen values that any door can show.

``Diagnosis.to_json`` has the names that the command line promises; ``waits`` and ``calls`` are
DataFrames, made when asked for, so that only they need pandas.
"""

import html
import importlib.util
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from meshml_dbx.diagnosis.table import seen_by_client
from meshml_dbx.errors import MissingToolError
from meshml_dbx.traffic.evidence import NUMBER_COLUMNS, TEXT_COLUMNS, Evidence, Ledger

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """One of the worst calls of a culprit; ``detail`` says what is worth saying of it."""

    rank: int
    start_time: int
    request_id: str
    target: str | None
    code: int | None
    flags: str | None
    attempts: int | None
    duration_ms: float
    first_byte_ms: float | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """A target that the run waited for or failed on, why, and what shows it.

    ``cause`` is none where nothing is wrong. ``wait_s`` is its part of the run's wait; ``cost_s``
    what it cost beyond healthy, ``pause_s`` of it being pauses before the program tried again: a
    bound, since it may have had other work. ``blamed_on`` says what it was compared with: baseline,
    siblings or absolute. ``breakdown`` splits the seconds of its calls, which overlap where calls
    ran side by side.
    """

    rank: int
    virtual_service: str
    route: str | None
    target: str | None
    upstream: str | None
    pattern: str
    patterns: tuple[str, ...]
    cause: str
    blamed_on: str
    wait_s: float
    share: float
    cost_s: float
    pause_s: float
    calls: int
    of_calls: int
    errors: int
    retries: int
    p95_ms: float
    baseline_p95_ms: float | None
    compared_with: str | None
    stages: tuple[str, ...]
    breakdown: dict[str, float]
    request_ids: tuple[str, ...]
    mesh_line: str | None
    detail: str
    sentence: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A call without an end: still in flight, or cut off when its proxy died."""

    request_id: str | None
    age_s: float
    virtual_service: str | None
    target: str | None
    stage: str | None
    pattern: str | None
    is_cut_off: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The rest of the run's time, and what could not be seen.

    The run's duration is its wait + ``tunnel_s`` + ``cpu_s`` + ``unexplained_s``. ``tunnel_s`` is
    time with an https connection open and no call in flight: a bound, since what passes in it is
    not seen. ``cpu_s`` counts the program's CPU time against the time that is left at most: CPU
    used while a call was in flight, or by several threads at once, cannot count twice; all of it
    is ``cpu_total_s``.
    """

    cpu_s: float | None
    tunnel_s: float
    unexplained_s: float
    cpu_total_s: float | None
    not_seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRow:
    """The wait of the run for one pattern of one target in one stage, and its cause."""

    virtual_service: str
    route: str | None
    target: str | None
    pattern: str
    stage: str | None
    cause: str
    calls: int
    wait_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """A pattern of the program's own calls that costs it time, and that it can mend alone.

    ``kind`` is one of ``habits.KINDS``, ``calls`` those that could be spared, joined or made at
    once. ``saves_s`` is an estimate of one change by itself: those of several do not add up.
    """

    kind: str
    virtual_service: str
    pattern: str
    calls: int
    saves_s: float
    sentence: str
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why a run was slow, stuck or failed.

    ``wait_rows`` add up to ``wait_us`` exactly. ``page`` is a static HTML page of the answer, made
    elsewhere; a notebook shows it, or the text where there is none.
    """

    run_id: str
    run_name: str
    status: str
    start_time: int
    duration_us: int
    wait_us: int
    verdict: str
    sentence: str
    baseline: str | None
    culprits: tuple[Culprit, ...]
    in_flight: tuple[InFlight, ...]
    coverage: Coverage
    ledger: Ledger
    wait_rows: tuple[WaitRow, ...]
    evidence_rows: tuple[EvidenceRow, ...]
    evidence: Evidence = field(repr=False, compare=False)
    habits: tuple[Habit, ...] = ()
    text: str = field(default="", repr=False)
    page: str = field(default="", repr=False, compare=False)

    @property
    def duration_s(self) -> float:
        """How long the run lasted, or has lasted."""
        return self.duration_us / 1e6

    @property
    def wait_s(self) -> float:
        """The time in which at least one call of the run was in flight."""
        return self.wait_us / 1e6

    @property
    def blamed(self) -> tuple[Culprit, ...]:
        """The culprits with which something is wrong."""
        return tuple(one for one in self.culprits if one.cause != "none")

    @property
    def seen_by_client(self) -> bool:
        """Whether the calling process alone recorded the calls, so that no proxy saw any."""
        return seen_by_client(self.evidence)

    @property
    def calls(self) -> "pd.DataFrame":
        """The run's finished calls as a DataFrame, one row each, unknown values missing."""
        _require_pandas()
        import pandas

        columns = self.evidence.calls
        made: dict[str, object] = {"request_id": list(columns.request_ids)}
        made |= {
            name: pandas.arrays.IntegerArray(values.copy(), values < 0)
            for name, values in ((n, np.asarray(columns.numbers[n])) for n in NUMBER_COLUMNS)
        }
        made |= {
            name: pandas.Categorical.from_codes(
                np.asarray(columns.texts[name].codes), categories=list(columns.texts[name].names)
            )
            for name in TEXT_COLUMNS
        }
        frame = pandas.DataFrame(made)
        frame["start_time"] = pandas.to_datetime(
            np.asarray(columns.numbers["start_time"]), unit="us", utc=True
        )
        return frame

    @property
    def waits(self) -> "pd.DataFrame":
        """The run's wait by target, pattern and stage as a DataFrame, the longest first."""
        _require_pandas()
        import pandas

        names = ("virtual_service", "route", "target", "pattern", "stage", "cause", "calls")
        rows = [
            (*(getattr(one, name) for name in names), one.wait_us / 1e6) for one in self.wait_rows
        ]
        return pandas.DataFrame(rows, columns=[*names, "wait_s"])

    def to_json(self) -> dict[str, object]:
        """The answer as plain values under the promised names."""
        return {
            "run_id": self.run_id,
            "run_name": self.run_name,
            "status": self.status,
            "duration_s": _rounded(self.duration_s),
            "wait_s": _rounded(self.wait_s),
            "verdict": self.verdict,
            "sentence": self.sentence,
            "baseline": self.baseline,
            "culprits": [_plain(one) for one in self.culprits],
            "client_patterns": [_plain(one) for one in self.habits],
            "in_flight": [_plain(one) for one in self.in_flight],
            "coverage": _plain(self.coverage),
            "ledger": _plain(self.ledger),
        }

    def with_page(self, page: str) -> "Diagnosis":
        """The same answer, shown in a notebook as this page."""
        return replace(self, page=page)

    def _repr_html_(self) -> str:
        return self.page or f"<pre>{html.escape(self.text)}</pre>"


def _plain(value: object) -> dict[str, object]:
    names: tuple[str, ...] = value.__slots__  # type: ignore[attr-defined]  # ours are all slotted
    return {name: _rounded(getattr(value, name)) for name in names}


def _rounded(value: object) -> object:
    """Values as JSON has them: tuples as lists, and no digits beyond the microsecond."""
    match value:
        case float():
            return round(value, 6)
        case tuple():
            return [_rounded(one) for one in value]
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case _:
            return value


def _require_pandas() -> None:
    if importlib.util.find_spec("pandas") is None:
        raise MissingToolError(
            "could not make a DataFrame: pandas is not installed",
            advice='pip install "meshml_dbx[local]"',
        )


def json_text(diagnosis: Diagnosis) -> str:
    """The answer as one JSON object."""
    return json.dumps(diagnosis.to_json(), ensure_ascii=False, indent=2)
