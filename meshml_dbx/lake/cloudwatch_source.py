"""CloudWatch log groups as a Spark data source, ``meshml_cloudwatch``, for batch and stream.

Goes in: options, and the function that makes a client, passed by reference since a client cannot
travel. Comes out: rows of events. Each slice of time is one partition, read by whichever executor
has it. A stream's offset is a moment up to which CloudWatch took events in, so it is small, and
reading between two offsets gives the same rows each time.

Options: ``log_group`` · ``start``, ``end`` (ISO 8601, UTC unless it says otherwise; the end is not
included) · ``region``, ``endpoint_url``, ``profile`` · ``stream_prefix``, ``filter_pattern`` ·
``slice_s`` (300) · ``overlap_s`` (900; how late an event may be), ``lag_s`` (30; a stream keeps so
far behind, since CloudWatch takes a moment to show what it took in) and ``slices_per_batch`` (288)
for streams. No option takes a secret.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    DataSourceStreamReader,
    InputPartition,
)

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.cloudwatch import (
    LogQuery,
    MakeClient,
    Page,
    TakenIn,
    check_group,
    read_pages,
    time_slices,
)
from meshml_dbx.lake.log_event import clean_text

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # ships without types

try:
    from pyspark.sql.streaming.datasource import (
        ReadAllAvailable,
        ReadMaxFiles,
        SupportsTriggerAvailableNow,
    )
except ImportError:  # before Spark 4.2, and Databricks 17.3: a batch takes all there is
    ReadAllAvailable = ReadMaxFiles = None

    class SupportsTriggerAvailableNow:  # type: ignore[no-redef]  # a mixin that does nothing
        """Stands in for what this Spark does not know."""


SOURCE = "meshml_cloudwatch"
SCHEMA = (
    "event_id STRING, timestamp TIMESTAMP, ingestion_time TIMESTAMP, log_group STRING, "
    "log_stream STRING, message STRING"
)
"""Give it to ``schema(…)``: Databricks asks a source for its own where nothing else works."""
OFFSET = "taken_in_ms"


def cloudwatch_source(make_client: MakeClient) -> type[DataSource]:
    """The data source whose clients are made by that function; register it with the session.

    The function is called on driver and executors with ``region``, ``endpoint_url`` and
    ``profile``, so it has to be importable there, or to hold nothing that cannot be pickled.
    """
    return type("MeshCloudWatch", (CloudWatchSource,), {"make_client": staticmethod(make_client)})


class CloudWatchSource(DataSource):  # type: ignore[misc]  # pyspark is not typed here
    """See ``cloudwatch_source``, which makes one that has a client."""

    make_client: ClassVar[MakeClient]

    @classmethod
    def name(cls) -> str:
        """As ``spark.read.format`` takes it."""
        return SOURCE

    def schema(self) -> str:
        """The columns."""
        return SCHEMA

    def reader(self, schema: object) -> DataSourceReader:  # noqa: ARG002  # Spark gives it
        """Reads a span of time once."""
        return _BatchReader(_Plan.of(self.options), type(self).make_client)

    def streamReader(self, schema: object) -> DataSourceStreamReader:  # noqa: ARG002, N802  # Spark's
        """Reads what is new, again and again."""
        return _StreamReader(_Plan.of(self.options), type(self).make_client)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The options, read."""

    query: LogQuery
    client: Mapping[str, str | None]
    slice_ms: int
    overlap_ms: int
    lag_ms: int
    slices_per_batch: int

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "_Plan":
        group = options.get("log_group")
        if not group:
            raise LakeError(
                f"the source {SOURCE} was given no log group",
                advice=f'spark.read.format("{SOURCE}").option("log_group", "/ml/envoy")…',
            )
        now = _now_ms()
        query = LogQuery(
            log_group=group,
            start_ms=_moment(options, "start", now - 3_600_000),
            end_ms=_moment(options, "end", now),
            stream_prefix=options.get("stream_prefix") or "",
            filter_pattern=options.get("filter_pattern") or "",
            page_size=_number(options, "page_size", 0) or None,
        )
        names = ("region", "endpoint_url", "profile")
        return cls(
            query=query,
            client={name: options.get(name) for name in names},
            slice_ms=_number(options, "slice_s", 300) * 1000,
            overlap_ms=_number(options, "overlap_s", 900) * 1000,
            lag_ms=_number(options, "lag_s", 30) * 1000,
            slices_per_batch=_number(options, "slices_per_batch", 288),
        )


@dataclass(frozen=True)
class _Slice(InputPartition):  # type: ignore[misc]  # pyspark is not typed here
    """What one task reads."""

    query: LogQuery
    taken_in: TakenIn | None = None


class _BatchReader(DataSourceReader):  # type: ignore[misc]  # pyspark is not typed here
    def __init__(self, plan: _Plan, make_client: MakeClient) -> None:
        self._plan = plan
        self._make_client = make_client

    def partitions(self) -> list[_Slice]:
        """Slices of time; a group that cannot be read is told here, once."""
        client = self._make_client(**self._plan.client)
        try:
            check_group(client, self._plan.query)
        finally:
            client.close()
        return [_Slice(query) for query in time_slices(self._plan.query, self._plan.slice_ms)]

    def read(self, partition: _Slice) -> "Iterator[pa.RecordBatch]":
        """One record batch a page."""
        return _read(self._make_client, self._plan, partition)


class _StreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):  # type: ignore[misc]  # as above
    def __init__(self, plan: _Plan, make_client: MakeClient) -> None:
        self._plan = plan
        self._make_client = make_client
        self._target_ms: int | None = None

    def initialOffset(self) -> dict[str, int]:  # noqa: N802  # Spark's name
        """From the option ``start`` on."""
        return {OFFSET: self._plan.query.start_ms}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802  # Spark's name
        """What is taken in from here on is left to the next time."""
        self._target_ms = _now_ms() - self._plan.lag_ms

    def getDefaultReadLimit(self) -> object:  # noqa: N802  # Spark's name
        """So many slices a batch: a slice is what a file is elsewhere."""
        return ReadMaxFiles(self._plan.slices_per_batch)

    def latestOffset(  # noqa: N802  # Spark's name
        self, start: dict[str, int] | None = None, limit: object = None
    ) -> dict[str, int]:
        """Up to now, less the lag; Spark before 4.2 gives neither start nor limit."""
        target = self._target_ms or _now_ms() - self._plan.lag_ms
        if start is None:
            return {OFFSET: target}
        if limit is not None and not isinstance(limit, ReadAllAvailable):
            slices = getattr(limit, "max_files", self._plan.slices_per_batch)
            target = min(target, start[OFFSET] + slices * self._plan.slice_ms)
        return {OFFSET: max(target, start[OFFSET])}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> list[_Slice]:
        """Slices of all times that events may have which were taken in between two offsets."""
        taken_in = TakenIn(after_ms=start[OFFSET], until_ms=end[OFFSET])
        if taken_in.until_ms <= taken_in.after_ms:
            return []
        wanted = taken_in.query(self._plan.query, overlap_ms=self._plan.overlap_ms)
        past = replace(wanted, end_ms=taken_in.until_ms)
        *slices, last = time_slices(past, self._plan.slice_ms)
        slices.append(replace(last, end_ms=wanted.end_ms))
        return [_Slice(query, taken_in) for query in slices]

    def read(self, partition: _Slice) -> "Iterator[pa.RecordBatch]":
        """One record batch a page."""
        return _read(self._make_client, self._plan, partition)


def _read(make_client: MakeClient, plan: _Plan, slice_: _Slice) -> "Iterator[pa.RecordBatch]":
    client = make_client(**plan.client)
    try:
        for page in read_pages(client, slice_.query):
            kept = slice_.taken_in.keep(page) if slice_.taken_in else page
            if kept:
                yield record_batch(kept, slice_.query.log_group)
    finally:
        client.close()


def record_batch(page: Page, log_group: str) -> "pa.RecordBatch":
    """The events of a page as columns of the schema."""
    import pyarrow as pa

    columns = {
        "event_id": pa.array([event["eventId"] for event in page], pa.string()),
        "timestamp": _times([event["timestamp"] for event in page]),
        "ingestion_time": _times([event.get("ingestionTime") for event in page]),
        "log_group": pa.array([log_group] * len(page), pa.string()),
        "log_stream": pa.array([event.get("logStreamName") for event in page], pa.string()),
        "message": _texts([event["message"] for event in page]),
    }
    return pa.RecordBatch.from_pydict(columns)


def _times(moments_ms: list[int | None]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(moments_ms, pa.timestamp("ms", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))


def _texts(texts: list[str]) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([clean_text(text) for text in texts], pa.string())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _moment(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name)
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise LakeError(
            f"the source {SOURCE} cannot read {name}={text!r} as a time",
            advice="write it as 2026-11-22T12:00:00Z",
        ) from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name)
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise LakeError(
            f"the source {SOURCE} was given {name}={text!r}",
            advice="give it a whole number above 0",
        )
    return int(text)
