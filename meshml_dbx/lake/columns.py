"""The calls of a run as the columns of evidence, made from Arrow without an object per call.

Goes in: rows that a run owns. Comes out: ``CallTable``: its columns in the one order, and the few
facts about them that the rest of the evidence is asked by.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # ships without types
import pyarrow.compute as pc  # type: ignore[import-untyped]
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.traffic.access_log import END_TYPE
from meshml_dbx.traffic.evidence import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    UNKNOWN,
    CallColumns,
    Coded,
    Retried,
)
from meshml_dbx.traffic.program_log import OPEN_STAGE, Stage

ORDER = (("start_time", "ascending"), ("request_id", "ascending"), ("sidecar_id", "ascending"))
READ_TEXTS = tuple(name for name in TEXT_COLUMNS if name != "type")
NO_TABLE = pa.table({"request_id": pa.array([], pa.string())})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTable:
    """The finished calls of a run, in their order, as Arrow has them.

    >>> CallTable().sidecars
    Counter()
    """

    rows: Any = field(default_factory=lambda: NO_TABLE)

    @property
    def sidecars(self) -> Counter[str]:
        """How many of the calls each sidecar saw."""
        return self._count("sidecar_id")

    @property
    def processes(self) -> frozenset[str]:
        """The processes that made them."""
        return frozenset(self._count("process_id"))

    @property
    def mesh_versions(self) -> frozenset[str]:
        """The meshes that they crossed."""
        return frozenset(self._count("mesh_version"))

    @property
    def windowed(self) -> int:
        """How many are joined by client and time only."""
        return self._count("join_method")["window"]

    @property
    def ambiguous(self) -> int:
        """How many could belong to another run."""
        return int(pc.sum(self.rows["ambiguous"]).as_py() or 0) if self.rows.num_rows else 0

    def retried(self) -> tuple[Retried, ...]:
        """Those that were tried more than once."""
        if not self.rows.num_rows:
            return ()
        names = ("sidecar_id", "request_id", "connection_id", "start_time", "duration_us")
        found = self.rows.filter(pc.greater(self.rows["attempts"], 1)).select(names).to_pylist()
        return tuple(
            Retried(**row, end_time=row["start_time"] + duration)
            for row, duration in ((row, row.pop("duration_us")) for row in found)
        )

    def _count(self, name: str) -> Counter[str]:
        if not self.rows.num_rows:
            return Counter()
        pairs = pc.value_counts(self.rows[name].combine_chunks()).to_pylist()
        return Counter({p["values"]: p["counts"] for p in pairs if p["values"] is not None})


def read_calls(owned: DataFrame) -> CallTable:
    """The calls that ``own_calls`` gave to one run."""
    numbers = {
        name: F.coalesce(F.col(name), F.lit(UNKNOWN)).alias(name)
        for name in NUMBER_COLUMNS
        if name != "start_time"
    }
    arrow = owned.select(
        F.coalesce("request_id", F.lit("")).alias("request_id"),
        F.unix_micros("start_time").alias("start_time"),
        *numbers.values(),
        *READ_TEXTS,
        "process_id",
        "connection_id",
        "ambiguous",
    ).toArrow()
    return CallTable(rows=arrow.take(pc.sort_indices(arrow, sort_keys=list(ORDER))))


def columns_of(calls: CallTable, spans: Iterable[Stage]) -> CallColumns:
    """The evidence columns; a call without a stage of its own is in the span that holds it.

    ``spans`` are those of ``stage_spans``: they do not overlap within a process.
    """
    rows = calls.rows
    if not rows.num_rows:
        return CallColumns.of([])
    numbers = {name: _numbers(rows[name]) for name in NUMBER_COLUMNS}
    texts = {name: _coded(rows[name]) for name in READ_TEXTS}
    texts["type"] = Coded(codes=array("i", bytes(4 * rows.num_rows)), names=(END_TYPE,))
    texts["stage"] = _stages(texts["stage"], numbers["start_time"], rows, spans)
    return CallColumns(
        request_ids=tuple(rows["request_id"].to_pylist()),
        numbers=numbers,
        texts={name: texts[name] for name in TEXT_COLUMNS},
    )


def _numbers(column: Any) -> "array[int]":
    return _array("q", column.combine_chunks().cast(pa.int64()))


def _array(code: str, values: Any) -> "array[int]":
    """The values of an Arrow array that has no nulls."""
    made = array(code)
    buffer = memoryview(values.buffers()[1]).cast("B")
    begin = values.offset * made.itemsize
    made.frombytes(buffer[begin : begin + len(values) * made.itemsize])
    return made


def _coded(column: Any) -> Coded:
    """A column of texts as codes of its names in sorted order."""
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    names = tuple(sorted(values))
    rank = {name: code for code, name in enumerate(names)}
    # An empty text is no text, in every maker of evidence.
    ranks = pa.array([rank[value] if value else -1 for value in values], pa.int32())
    if not values:
        return Coded(codes=array("i", [-1]) * len(column), names=())
    codes = pc.fill_null(ranks.take(encoded.indices), -1)
    return Coded(codes=_array("i", codes), names=names)


def _stages(own: Coded, starts: "array[int]", rows: Any, spans: Iterable[Stage]) -> Coded:
    """The stage of each call: its own, else that of the span in which it began."""
    by_process: dict[str, list[Stage]] = {}
    for span in spans:
        by_process.setdefault(span.process_id, []).append(span)
    if not by_process:
        return own
    found: Any = _texts(own)
    for process, listed in by_process.items():
        listed.sort(key=lambda span: span.start_time)
        began = pc.and_(pc.equal(rows["process_id"].combine_chunks(), process), pc.is_null(found))
        found = pc.if_else(pc.fill_null(began, fill_value=False), _at(starts, listed), found)
    return _coded(pa.chunked_array([found]))


def _texts(coded: Coded) -> Any:
    """The texts of a coded column; null where there is none."""
    names = pa.array(coded.names, pa.string())
    codes = pa.array(coded.codes, pa.int32())
    return names.take(pc.if_else(pc.less(codes, 0), None, codes))


def _at(moments: "array[int]", spans: list[Stage]) -> Any:
    """The name of the span that holds each moment, null where none does; moments ascend."""
    pieces: list[Any] = []
    done = 0
    for span in spans:
        end = OPEN_STAGE if span.end_time is None else span.end_time
        begin, stop = (max(bisect_left(moments, t), done) for t in (span.start_time, end))
        pieces += [pa.nulls(begin - done, pa.string()), _repeat(span.stage, stop - begin)]
        done = stop
    pieces.append(pa.nulls(len(moments) - done, pa.string()))
    return pa.concat_arrays(pieces)


def _repeat(text: str, times: int) -> Any:
    return pa.nulls(times, pa.string()).fill_null(text)
