"""The lines of a call: the same records, keys and order as a sidecar's, observer ``client``.

Goes in: a call with what was noted of it. Comes out: JSON lines. Made on the writer's thread, so
that the program's calls do not wait for it.
"""

from collections.abc import Iterator, Mapping

import orjson

from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.faults import fault_of
from meshml_dbx.recorder.hosts import Hosts
from meshml_dbx.recorder.plan import CLIENT_OBSERVER, RecorderPlan
from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    END_TYPE,
    FIELDS,
    PERIODIC_TYPE,
    RECORD_KEY,
    START_TYPE,
    TYPE_KEY,
    UNFINISHED_TYPE,
    time_text,
)

UPSTREAM_END_TYPE = "UpstreamEnd"

Values = dict[str, object]


class LineMaker:
    """Makes the lines of one recorder; what is the same in all of them is made once."""

    def __init__(self, plan: RecorderPlan, sidecar_id: str) -> None:
        self._hosts = Hosts(plan)
        self._prefix = sidecar_id.rpartition("-")[2]
        same: Values = {
            "observer": CLIENT_OBSERVER,
            "mesh": plan.mesh,
            "sidecar_id": sidecar_id,
            "process_id": plan.process_id,
            "client": plan.client,
            "environment": plan.environment,
        }
        self._call = _empty("call", (field.json_key() for field in FIELDS)) | same
        self._attempt = _empty("attempt", (field.json_key() for field in ATTEMPT_FIELDS)) | same
        # A call that goes on says little: only what is known at its begin, and how long it lasts.
        self._progress: Values = {RECORD_KEY: "call", TYPE_KEY: START_TYPE, **same}

    def start(self, call: OpenCall) -> bytes:
        """The line of a call's begin."""
        return orjson.dumps(self._progress | self._begin(call) | {"duration_ms": 0}) + b"\n"

    def periodic(self, call: OpenCall, now_ns: int) -> bytes:
        """The line of a call that goes on."""
        return self._still(call, now_ns, PERIODIC_TYPE)

    def unfinished(self, call: OpenCall, now_ns: int) -> bytes:
        """The last that is known of a call whose end nobody will record."""
        return self._still(call, now_ns, UNFINISHED_TYPE)

    def _still(self, call: OpenCall, now_ns: int, kind: str) -> bytes:
        lasted = {
            TYPE_KEY: kind,
            "duration_ms": max(now_ns - call.began_ns, 0) // 1_000_000,
            "attempts": len(call.tries) + 1,
            "code": call.code,
            "upstream_host": call.upstream_host,
            "to_upstream_us": _between(call.began_ns, call.sending_ns),
        }
        return orjson.dumps(self._progress | self._begin(call) | lasted) + b"\n"

    def end(self, call: OpenCall) -> bytes:
        """The lines of a call that is over: of its tries, where there were several, and its own."""
        begin = self._begin(call)
        own = self._call | begin | _times(call) | _outcome(call) | {TYPE_KEY: END_TYPE}
        own["attempts"] = len(call.tries) + 1
        own["bytes_in"] = call.bytes_in
        own["duration_ms"] = max(call.ended_ns - call.began_ns, 0) // 1_000_000
        own["total_us"] = _between(call.began_ns, call.ended_ns)
        line = orjson.dumps(own) + b"\n"
        if not call.tries:
            return line
        return b"".join(self._tries(call, begin)) + line

    def _begin(self, call: OpenCall) -> Values:
        name = self._hosts.name_of(call.authority, call.path)
        stage, partition, attempt = call.spark or (None, None, None)
        return {
            "start_time": time_text(call.began_us),
            "request_id": f"{self._prefix}-{call.number}",
            "method": call.method,
            "authority": call.authority,
            "path": call.path,
            "virtual_service": name.virtual_service,
            "target": name.target,
            "attempt": call.attempt,
            "run_id": call.run_id,
            "stage": call.stage,
            "thread": call.thread,
            "resource": call.resource,
            "spark_stage": stage,
            "spark_partition": partition,
            "spark_attempt": attempt,
        }

    def _tries(self, call: OpenCall, begin: Values) -> Iterator[bytes]:
        for number, one in enumerate((*call.tries, call), 1):
            began_us = call.began_us + (one.try_began_ns - call.began_ns) // 1000
            values = self._attempt | {k: v for k, v in begin.items() if k in self._attempt}
            values |= _times(one) | _outcome(one)
            values["start_time"] = time_text(began_us)
            values["attempt"] = number
            values["to_upstream_us"] = _between(one.try_began_ns, one.sending_ns)
            values["duration_ms"] = max(one.ended_ns - one.try_began_ns, 0) // 1_000_000
            yield orjson.dumps({k: v for k, v in values.items() if k in self._attempt}) + b"\n"


def _empty(record: str, keys: Iterator[str]) -> Values:
    kind = END_TYPE if record == "call" else UPSTREAM_END_TYPE
    return {RECORD_KEY: record, TYPE_KEY: kind} | dict.fromkeys(
        key for key in keys if key != TYPE_KEY
    )


def _times(one: OpenCall) -> Values:
    """Where the time of a try went; what was not reached is null."""
    ready = one.sending_ns and max(one.sending_ns - one.try_began_ns, 0) // 1_000_000
    return {
        "to_upstream_us": _between(one.began_ns, one.sending_ns),
        "send_us": _between(one.sending_ns, one.sent_ns),
        "first_byte_us": _between(one.sent_ns, one.answered_ns),
        "receive_us": _between(one.answered_ns, one.body_ended_ns),
        "pool_ready_ms": ready if one.sending_ns else None,
        "connect_us": one.connect_us,
        "tls_us": one.tls_us,
        "upstream_connection_id": one.connection_id,
        "upstream_host": one.upstream_host or None,
        "upstream_local_address": one.local_address or None,
    }


def _outcome(one: OpenCall) -> Values:
    """Status, or the fault in its place; an answer that broke off has both."""
    found: Values = {"code": one.code, "bytes_out": one.bytes_out, "protocol": one.protocol}
    if one.error is None:
        return found | {"flags": None, "details": None, "upstream_failure": None}
    fault = fault_of(one.error, is_connected=one.sending_ns > 0)
    return found | {
        "flags": fault.flags,
        "details": fault.details,
        "upstream_failure": fault.tls_failure,
    }


def _between(begin_ns: int, end_ns: int) -> int | None:
    return (end_ns - begin_ns) // 1000 if begin_ns and end_ns >= begin_ns else None


def line_of(values: Mapping[str, object]) -> bytes:
    """Any record as a line."""
    return orjson.dumps(dict(values)) + b"\n"
