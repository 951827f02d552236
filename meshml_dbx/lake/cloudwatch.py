"""Events of a CloudWatch log group, read through the API by a client that is handed in.

Goes in: a client, a query, and for what is new since the last time a state that the caller keeps.
Comes out: pages of events. Time is cut into slices that can be read side by side. A page may be
empty though others follow; only a missing token is the end. CloudWatch takes events in late, up to
two weeks, and shows them a little later still: what is new is told by when they were taken in,
looked for among events of the last quarter of an hour before that, and by id.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.log_event import LogEvent, clean_text

OVERLAP_MS = 15 * 60_000
"""How late an event may be; twice the longest interval at which agents send is safe."""
VISIBLE_MS = 120_000
"""Within so long after it was taken in, CloudWatch shows an event."""
FUTURE_MS = 2 * 3_600_000
"""CloudWatch refuses events from further ahead than that."""
STATE_VERSION = 1

Event = Mapping[str, Any]
Page = list[dict[str, Any]]

_OPERATION = "before-parse.cloudwatch-logs.FilterLogEvents"
_HANDLER = "meshml-read-events"
_ID_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which events of a log group: from ``start_ms`` on, before ``end_ms``, by their own time.

    >>> LogQuery(log_group="/ml/envoy", start_ms=0, end_ms=1000).request()["endTime"]
    999
    """

    log_group: str
    start_ms: int
    end_ms: int
    stream_prefix: str = ""
    filter_pattern: str = ""
    page_size: int | None = None

    def request(self) -> dict[str, Any]:
        """As FilterLogEvents takes it, whose end is inclusive."""
        optional = {
            "logStreamNamePrefix": self.stream_prefix,
            "filterPattern": self.filter_pattern,
            "limit": self.page_size,
        }
        given = {name: value for name, value in optional.items() if value}
        times = {"startTime": self.start_ms, "endTime": self.end_ms - 1}
        return {"logGroupName": self.log_group, **times, **given}


def time_slices(query: LogQuery, slice_ms: int) -> tuple[LogQuery, ...]:
    """The query cut into spans of time that have no event in common and leave none out.

    >>> whole = LogQuery(log_group="/ml/envoy", start_ms=0, end_ms=2500)
    >>> [one.end_ms for one in time_slices(whole, 1000)]
    [1000, 2000, 2500]
    """
    starts = range(query.start_ms, query.end_ms, max(slice_ms, 1))
    ends = (min(start + slice_ms, query.end_ms) for start in starts)
    return tuple(
        replace(query, start_ms=start, end_ms=end) for start, end in zip(starts, ends, strict=True)
    )


def read_pages(client: Any, query: LogQuery) -> Iterator[Page]:
    """The pages of a query that hold events, each event as the API writes it.

    Raises:
        LakeError: the group does not exist, access is denied, credentials are missing or have
            expired, requests were throttled for longer than the client has patience.
    """
    request = query.request()
    if query.end_ms <= query.start_ms:
        return
    with _quick_parsing(client):
        while True:
            answer = _ask(client, request)
            if answer.get("events"):
                yield answer["events"]
            token = answer.get("nextToken")
            if not token:
                return
            request["nextToken"] = token


def read_events(client: Any, query: LogQuery) -> Iterator[LogEvent]:
    """The events of a query, in the order in which CloudWatch has them.

    Raises:
        LakeError: see ``read_pages``.
    """
    for page in read_pages(client, query):
        yield from (event_of(event, query.log_group) for event in page)


def check_group(client: Any, query: LogQuery) -> None:
    """Nothing, when the group can be read.

    Raises:
        LakeError: see ``read_pages``.
    """
    _ask(client, {**query.request(), "limit": 1})


def event_of(event: Event, log_group: str) -> LogEvent:
    """An event of the API as one of ours."""
    return LogEvent(
        event_id=event["eventId"],
        timestamp_us=event["timestamp"] * 1000,
        message=clean_text(event["message"]),
        log_group=log_group,
        log_stream=event.get("logStreamName"),
    )


# --- what is new ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """A span of time in which CloudWatch took events in: after ``after_ms``, up to ``until_ms``.

    >>> TakenIn(after_ms=5, until_ms=7).keep([{"ingestionTime": 5}, {"ingestionTime": 7}])
    [{'ingestionTime': 7}]
    """

    after_ms: int
    until_ms: int

    def keep(self, page: Page) -> Page:
        """The events of a page that were taken in then."""
        after, until = self.after_ms, self.until_ms
        return [event for event in page if after < taken_in_ms(event) <= until]

    def query(self, query: LogQuery, *, overlap_ms: int) -> LogQuery:
        """What to ask for: all times that events which were taken in then may have."""
        start = max(query.start_ms, self.after_ms - overlap_ms)
        return replace(query, start_ms=start, end_ms=self.until_ms + FUTURE_MS)


def taken_in_ms(event: Event) -> int:
    """When CloudWatch took an event in."""
    return int(event.get("ingestionTime") or event["timestamp"])


class NewEvents:
    """Pages of events that are new since a state; ``state`` is the next one once all were read.

    >>> NewEvents(None, LogQuery(log_group="g", start_ms=0, end_ms=0), {}, now_ms=0).state
    {}
    """

    def __init__(
        self,
        client: Any,
        query: LogQuery,
        state: Mapping[str, Any],
        *,
        now_ms: int,
        overlap_ms: int = OVERLAP_MS,
    ) -> None:
        self.state = dict(state)
        self._client = client
        self._query = query
        self._now_ms = now_ms
        self._overlap_ms = overlap_ms

    def __iter__(self) -> Iterator[Page]:
        through, recent = _read_state(self.state, self._query)
        # At first, all that the query asks for, be it taken in long before the time it bears.
        after = through - VISIBLE_MS if self.state else min(through - VISIBLE_MS, 0)
        span = TakenIn(after_ms=after, until_ms=self._now_ms + FUTURE_MS)
        query = span.query(self._query, overlap_ms=self._overlap_ms)
        newest = max(through, self._now_ms - OVERLAP_MS)  # clocks may differ by that
        keep_from = newest - VISIBLE_MS
        told: dict[bytes, int] = {}
        for page in read_pages(self._client, replace(query, end_ms=span.until_ms)):
            fresh = [event for event in span.keep(page) if _short_id(event) not in recent]
            times = {_short_id(event): taken_in_ms(event) for event in span.keep(page)}
            newest = max(newest, *times.values(), newest)
            told |= {key: moment for key, moment in times.items() if moment > keep_from}
            if fresh:
                yield fresh
        kept = (key for key, moment in told.items() if moment > newest - VISIBLE_MS)
        self.state = {
            "version": STATE_VERSION,
            "log_group": self._query.log_group,
            "taken_in_through_ms": newest,
            "recent": base64.b64encode(b"".join(sorted(kept))).decode(),
        }


def read_new(
    client: Any,
    query: LogQuery,
    state: Mapping[str, Any],
    *,
    now_ms: int,
    overlap_ms: int = OVERLAP_MS,
) -> NewEvents:
    """Events that were taken in since a state was made, each once; with ``{}``, all from the start
    of the query on. Its end does not count.

    The state is small: it knows the ids of the last two minutes only, since what was taken in
    before that was to be seen at the last reading.
    """
    return NewEvents(client, query, state, now_ms=now_ms, overlap_ms=overlap_ms)


def _read_state(state: Mapping[str, Any], query: LogQuery) -> tuple[int, set[bytes]]:
    if not state:
        return query.start_ms, set()
    if state["version"] > STATE_VERSION or state["log_group"] != query.log_group:
        raise LakeError(
            f"cannot go on reading {query.log_group}: the state is of version {state['version']} "
            f"and of {state['log_group']}",
            advice="use the state that was saved for this group, or begin with an empty one",
        )
    packed = base64.b64decode(state["recent"])
    ids = {packed[at : at + _ID_BYTES] for at in range(0, len(packed), _ID_BYTES)}
    return int(state["taken_in_through_ms"]), ids


def _short_id(event: Event) -> bytes:
    return blake2b(event["eventId"].encode(), digest_size=_ID_BYTES).digest()


# --- the client -----------------------------------------------------------------------------------


@contextmanager
def _quick_parsing(client: Any) -> Iterator[None]:
    """Read answers by a quicker JSON reader than the client's, which walks through each event.

    The client's own is used where this one cannot; what comes out is the same.
    """
    events = client.meta.events
    events.register(_OPERATION, _parse_quickly, unique_id=_HANDLER)
    try:
        yield
    finally:
        events.unregister(_OPERATION, _parse_quickly, unique_id=_HANDLER)


def _parse_quickly(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    if response_dict["status_code"] != 200:  # noqa: PLR2004  # HTTP's own
        return
    try:
        answer = orjson.loads(response_dict["body"])
        events = answer.pop("events")
    except (ValueError, KeyError, AttributeError):
        return
    customized_response_dict["events"] = events
    response_dict["body"] = orjson.dumps(answer)


def _ask(client: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    from botocore.exceptions import (  # type: ignore[import-untyped]  # ships without types
        BotoCoreError,
        ClientError,
    )

    try:
        answer: dict[str, Any] = client.filter_log_events(**request)
    except ClientError as error:
        raise explain(error.response["Error"], client, request["logGroupName"]) from error
    except BotoCoreError as error:
        name = type(error).__name__
        details = {"Code": name, "Message": str(error)}
        raise explain(details, client, request["logGroupName"]) from error
    return answer


def explain(error: Mapping[str, Any], client: Any, log_group: str) -> LakeError:
    """An error of AWS in words: which group, where, and what to do."""
    code = str(error.get("Code", "")).rpartition("#")[2]
    region = client.meta.region_name
    told = _TOLD.get(code, (f"{code}: {error.get('Message', '')}".strip(": "), _OTHER))
    what, advice = told
    return LakeError(
        f"cannot read log group {log_group} in region {region}: {what}",
        advice=advice.format(group=log_group, region=region),
    )


_OTHER = "run: aws logs filter-log-events --log-group-name {group} --region {region} --limit 1"
_ABSENT = ("there is no such group", "list them: aws logs describe-log-groups --region {region}")
_DENIED = (
    "access is denied",
    "allow logs:FilterLogEvents on the group {group} to the role that reads it",
)
_EXPIRED = ("the credentials have expired", "sign in again, or let the job use a role")
_INVALID = ("the credentials are not valid", "check which are used: aws sts get-caller-identity")
_MISSING = (
    "there are no credentials",
    "name a profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or let the job use a role",
)
_THROTTLED = (
    "CloudWatch throttles requests, and went on to",
    "read fewer slices at once, or have a subscription filter write to S3 and read that",
)
_UNREACHABLE = ("its endpoint cannot be reached", "check region, proxy and network of {region}")
_TOLD = {
    "ResourceNotFoundException": _ABSENT,
    "AccessDeniedException": _DENIED,
    "AccessDenied": _DENIED,
    "ExpiredTokenException": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "UnrecognizedClientException": _INVALID,
    "InvalidClientTokenId": _INVALID,
    "InvalidSignatureException": _INVALID,
    "NoCredentialsError": _MISSING,
    "PartialCredentialsError": _MISSING,
    "CredentialRetrievalError": _MISSING,
    "TokenRetrievalError": _EXPIRED,
    "SSOTokenLoadError": _EXPIRED,
    "UnauthorizedSSOTokenError": _EXPIRED,
    "ThrottlingException": _THROTTLED,
    "LimitExceededException": _THROTTLED,
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
    "ReadTimeoutError": _UNREACHABLE,
}

MakeClient = Callable[..., Any]
"""Makes a client of CloudWatch Logs; it is given ``region``, ``endpoint_url`` and ``profile``."""
