"""The lines of a call: the same records and keys as a sidecar's, observer ``client``.

Goes in: a call with what was noted of it. Comes out: JSON lines. Made on the writer's thread, so
that the program's calls do not wait for it; from parts, because each part is made only once: what
all lines of a recorder say, what all lines of a call say, and the rest.
"""

from collections.abc import Iterable, Mapping

import orjson

from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.hosts import Hosts
from meshml_dbx.recorder.plan import NamedHost, RecorderPlan
from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CLIENT_OBSERVER,
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

_ATTEMPT_KEYS = tuple(field.json_key() for field in ATTEMPT_FIELDS)
MOST_ALIKE = 1_000
"""How many begins are kept, before all are made anew."""

_NOBODYS_CALL = OpenCall(0, "", "", "")


class LineMaker:
    """Makes the lines of one recorder.

    >>> from pathlib import Path
    >>> plan = RecorderPlan(logs=Path("logs"), client="train", process_id="p")
    >>> maker = LineMaker(plan, "train-1a2b3c4d")
    >>> line = orjson.loads(maker.start(OpenCall(7, "GET", "labels.example.com", "/v1")))
    >>> line["request_id"], line["virtual_service"], line["duration_ms"]
    ('1a2b3c4d-7', 'labels.example.com', 0)
    """

    def __init__(self, plan: RecorderPlan, sidecar_id: str) -> None:
        self._hosts = Hosts(plan)
        self._prefix = sidecar_id.rpartition("-")[2].encode()
        self._said: dict[tuple[object, ...], bytes] = {}
        same: Values = {
            "observer": CLIENT_OBSERVER,
            "mesh": plan.mesh,
            "sidecar_id": sidecar_id,
            "process_id": plan.process_id,
            "client": plan.client,
            "environment": plan.environment,
        }
        said = self._begin_values(_NOBODYS_CALL) | _end_values(_NOBODYS_CALL)
        unsaid = dict.fromkeys(key for field in FIELDS if (key := field.json_key()) not in said)
        self._end = _part({RECORD_KEY: "call", **unsaid, **same, TYPE_KEY: END_TYPE})
        # A call that goes on says little: only what is known at its begin, and how long it lasts.
        self._going_on = {
            kind: _part({RECORD_KEY: "call", TYPE_KEY: kind, **same})
            for kind in (START_TYPE, PERIODIC_TYPE, UNFINISHED_TYPE)
        }
        self._attempt: Values = {
            RECORD_KEY: "attempt",
            **dict.fromkeys(_ATTEMPT_KEYS),
            **same,
            TYPE_KEY: UPSTREAM_END_TYPE,
        }

    def start(self, call: OpenCall) -> bytes:
        """The line of a call's begin."""
        return _line(self._going_on[START_TYPE], self._begin(call), b'"duration_ms":0')

    def periodic(self, call: OpenCall, now_ns: int) -> bytes:
        """The line of a call that goes on."""
        return self._still(call, now_ns, PERIODIC_TYPE)

    def unfinished(self, call: OpenCall, now_ns: int) -> bytes:
        """The last that is known of a call whose end nobody will record."""
        return self._still(call, now_ns, UNFINISHED_TYPE)

    def _still(self, call: OpenCall, now_ns: int, kind: str) -> bytes:
        lasted: Values = {
            "duration_ms": max(now_ns - call.began_ns, 0) // 1_000_000,
            "attempts": len(call.tries) + 1,
            "code": call.code,
            "upstream_host": call.upstream_host,
            "to_upstream_us": _between(call.began_ns, call.sending_ns),
        }
        return _line(self._going_on[kind], self._begin(call), _part(lasted))

    def end(self, call: OpenCall) -> bytes:
        """The lines of a call that is over: of its tries, where there were several, and its own."""
        line = _line(self._end, self._begin(call), _part(_end_values(call)))
        return b"".join(self._tries(call)) + line if call.tries else line

    def _begin(self, call: OpenCall) -> bytes:
        if call.begin_text is None:
            begin = b',"start_time":"%s","request_id":"%s-%d","path":%s,"resource":%s'
            call.begin_text = self._alike(call) + begin % (
                time_text(call.began_us).encode(),
                self._prefix,
                call.number,
                _text(call.path),
                b"null" if call.resource is None else b"%d" % call.resource,
            )
        return call.begin_text

    def _alike(self, call: OpenCall) -> bytes:
        """What many calls say alike of their begin; made once for as long as they do."""
        name = self._hosts.name_of(call.authority, call.path)
        key = (
            name,
            call.method,
            call.authority,
            call.attempt,
            call.run_id,
            call.stage,
            call.thread,
            call.spark,
        )
        found = self._said.get(key)
        if found is None:
            if len(self._said) >= MOST_ALIKE:
                self._said.clear()
            found = self._said[key] = _part(_begin_alike(call, name))
        return found

    def _begin_values(self, call: OpenCall) -> Values:
        return {
            **_begin_alike(call, self._hosts.name_of(call.authority, call.path)),
            "start_time": time_text(call.began_us),
            "request_id": f"{self._prefix.decode()}-{call.number}",
            "path": call.path,
            "resource": call.resource,
        }

    def _tries(self, call: OpenCall) -> Iterable[bytes]:
        begin = self._begin_values(call)
        for number, one in enumerate((*call.tries, call), 1):
            began_us = call.began_us + (one.try_began_ns - call.began_ns) // 1000
            values = self._attempt | begin | _try_values(one)
            values["start_time"] = time_text(began_us)
            values["attempt"] = number
            values["to_upstream_us"] = _between(one.try_began_ns, one.sending_ns)
            values["duration_ms"] = max(one.ended_ns - one.try_began_ns, 0) // 1_000_000
            yield _line(_part({key: values[key] for key in self._attempt}))


def _begin_alike(call: OpenCall, name: NamedHost) -> Values:
    stage, partition, attempt = call.spark or (None, None, None)
    return {
        "method": call.method,
        "authority": call.authority,
        "virtual_service": name.virtual_service,
        "target": name.target,
        "attempt": call.attempt,
        "run_id": call.run_id,
        "stage": call.stage,
        "thread": call.thread,
        "spark_stage": stage,
        "spark_partition": partition,
        "spark_attempt": attempt,
    }


def _text(value: str) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_plain(value))


def _line(*parts: bytes) -> bytes:
    return b"{" + b",".join(parts) + b"}\n"


def _part(values: Mapping[str, object]) -> bytes:
    """The fields of an object, without its braces."""
    try:
        return orjson.dumps(values)[1:-1]
    except TypeError:  # a text that is no Unicode, or a value of a class that we do not know
        return orjson.dumps({key: _plain(value) for key, value in values.items()})[1:-1]


def _plain(value: object) -> object:
    if value is None or type(value) is int:
        return value
    return str(value).encode("utf-8", "replace").decode()


def _end_values(call: OpenCall) -> Values:
    lasted_ns = call.ended_ns - call.began_ns
    values = _try_values(call)
    values["attempts"] = len(call.tries) + 1
    values["bytes_in"] = call.bytes_in
    values["duration_ms"] = lasted_ns // 1_000_000 if lasted_ns > 0 else 0
    values["total_us"] = _between(call.began_ns, call.ended_ns)
    return values


def _try_values(one: OpenCall) -> Values:
    """Where the time of a try went, and how it ended; what was not reached is null.

    Status, or the fault in its place; an answer that broke off has both.
    """
    sending_ns, sent_ns, answered_ns = one.sending_ns, one.sent_ns, one.answered_ns
    fault = one.fault
    return {
        "to_upstream_us": _between(one.began_ns, sending_ns),
        "send_us": _between(sending_ns, sent_ns),
        "first_byte_us": _between(sent_ns, answered_ns),
        "receive_us": _between(answered_ns, one.body_ended_ns),
        "pool_ready_ms": max(sending_ns - one.try_began_ns, 0) // 1_000_000 if sending_ns else None,
        "connect_us": one.connect_us,
        "tls_us": one.tls_us,
        "upstream_connection_id": one.connection_id,
        "upstream_host": one.upstream_host or None,
        "upstream_local_address": one.local_address or None,
        "code": one.code,
        "bytes_out": one.bytes_out,
        "protocol": one.protocol,
        "flags": fault.flags if fault else None,
        "details": fault.details if fault else None,
        "upstream_failure": fault.tls_failure if fault else None,
    }


def _between(begin_ns: int, end_ns: int) -> int | None:
    return (end_ns - begin_ns) // 1000 if begin_ns and end_ns >= begin_ns else None
