"""What a subscription filter has Firehose write: every form of it, and every kind of damage."""

import base64
import gzip
import io
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshml_dbx.lake.firehose import LogBatches, log_events
from meshml_dbx.lake.log_event import LogEvent
from tests.lake.aws_lab import REGION, client_at, moto_server, put

GROUP, STREAM = "/ml/envoy", "task/1"
MESSAGES = ['{"code":200,"path":"/v1/ä"}', 'a "quoted"}{"messageType" text', "[2026] plain", "}{"]


def document(first: int, messages: list[str], **other: Any) -> bytes:
    """A document as CloudWatch sends it."""
    events = [
        {"id": f"{first + number:056d}", "timestamp": first + number, "message": message}
        for number, message in enumerate(messages)
    ]
    whole = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": GROUP,
        "logStream": STREAM,
        "subscriptionFilters": ["all"],
        "logEvents": events,
    }
    return json.dumps({**whole, **other}, separators=(",", ":")).encode()


CONTROL = document(0, ["CWL CONTROL MESSAGE: Checking health"], messageType="CONTROL_MESSAGE")
DOCUMENTS = [document(100 * number, [*MESSAGES, f"of {number}"]) for number in range(5)]
EXPECTED = [
    LogEvent(f"{100 * number + at:056d}", (100 * number + at) * 1000, message, GROUP, STREAM)
    for number in range(5)
    for at, message in enumerate([*MESSAGES, f"of {number}"])
]
MEMBERS = b"".join(gzip.compress(one) for one in DOCUMENTS)
FORMS = {
    "members": MEMBERS,
    "decompressed": b"".join(DOCUMENTS),
    "one member": gzip.compress(b"".join(DOCUMENTS)),
    "lines": b"\n".join(DOCUMENTS) + b"\n",
    "indented": b"".join(json.dumps(json.loads(one), indent=1).encode() for one in DOCUMENTS),
    "twice compressed": gzip.compress(MEMBERS),
    "thrice compressed": gzip.compress(gzip.compress(MEMBERS)),
    "cut into other members": b"".join(
        gzip.compress(b"".join(DOCUMENTS)[at : at + 100])
        for at in range(0, len(b"".join(DOCUMENTS)), 100)
    ),
    "empty members between": b"".join(gzip.compress(one) for one in (b"", *DOCUMENTS, b"")),
    "errors": b"".join(
        json.dumps(
            {
                "attemptsMade": 4,
                "arrivalTimestamp": 1795348800000,
                "errorCode": "Lambda.FunctionError",
                "errorMessage": "The function failed",
                "rawData": base64.b64encode(gzip.compress(one)).decode(),
            }
        ).encode()
        + b"\n"
        for one in DOCUMENTS
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same(form: str) -> None:
    """The first bytes tell what an object is; a message may look like a document's begin."""
    events = log_events(FORMS[form])
    assert list(events) == EXPECTED
    assert events.notices == ()


def test_a_file_is_read_like_its_bytes() -> None:
    """An object need not be in memory."""
    assert list(log_events(io.BytesIO(MEMBERS))) == EXPECTED


def test_control_messages_are_counted_not_read() -> None:
    """They are CloudWatch's probes."""
    events = log_events(gzip.compress(CONTROL) + MEMBERS + gzip.compress(CONTROL))
    assert list(events) == EXPECTED
    assert (events.control_messages, events.notices) == (2, ())


def test_extracted_fields_are_left_out() -> None:
    """They are the message again, in parts."""
    whole = json.loads(DOCUMENTS[0])
    for event in whole["logEvents"]:
        event["extractedFields"] = {"code": "200"}
    assert list(log_events(json.dumps(whole).encode())) == EXPECTED[:5]


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"one\ntwo }{ three\r\n\nfour", ["one", "two }{ three", "four"]),
        (b'{"a":1}{"b":2}{"c":{"d":3}}', ['{"a":1}', '{"b":2}', '{"c":{"d":3}}']),
        (b'{"a": 1.0}\n{"a": 1e5}\n', ['{"a": 1.0}', '{"a": 1e5}']),
        (b'[2026] "GET /{x" 200\n{"a":1}\nend', ['[2026] "GET /{x" 200', '{"a":1}', "end"]),
        (b"{not json\n{still not}\n", ["{not json", "{still not}"]),
        (b"", []),
    ],
)
def test_bare_messages_have_no_metadata(data: bytes, messages: list[str]) -> None:
    """What DataMessageExtraction leaves: the text as it is, be it JSON."""
    for form in (data, gzip.compress(data)):
        events = log_events(form)
        assert list(events) == [LogEvent(message=message) for message in messages]
        assert events.notices == ()


# --- damage ---------------------------------------------------------------------------------------


def test_a_damaged_member_costs_its_own_events() -> None:
    """Reading goes on at the next member; where and why is told."""
    packed = [bytearray(gzip.compress(one)) for one in DOCUMENTS]
    packed[2][30] ^= 0xFF
    events = log_events(b"".join(packed))
    found = [event.message for event in events]
    assert {f"of {number}" for number in (0, 1, 3, 4)} <= set(found)
    where = len(packed[0]) + len(packed[1])
    assert where <= events.notices[0].offset < where + len(packed[2])
    assert "damaged gzip member" in events.notices[0].reason


def test_a_cut_off_object_has_the_events_before_the_cut() -> None:
    """Also those of the document that was cut."""
    data = b"".join(DOCUMENTS)
    cut = data.rindex(b'"message":"of 4"')
    for form, reason in (
        (data[:cut], "not whole: 4 events"),
        (gzip.compress(data)[:-4], "within a gzip member"),
    ):
        events = log_events(form)
        found = list(events)
        assert found[:24] == EXPECTED[:24]
        assert reason in str([notice.reason for notice in events.notices])


def test_garbage_between_documents_is_told() -> None:
    """With its place in what was read."""
    data = DOCUMENTS[0] + b"\xff\xfe\x00\n" + DOCUMENTS[1]
    events = log_events(data)
    assert list(events) == EXPECTED[:10]
    (notice,) = events.notices
    assert (notice.offset, notice.reason) == (len(DOCUMENTS[0]), "bytes that are no text")


def test_a_document_without_its_end_does_not_cost_the_next() -> None:
    """Its whole events are kept, and so is what follows."""
    data = DOCUMENTS[0][:-30] + DOCUMENTS[1]
    events = log_events(data)
    assert list(events) == [*EXPECTED[:4], *EXPECTED[5:10]]
    assert "4 events of it are" in events.notices[0].reason


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"id": "1", "timestamp": 1}, "without a message"),
        ("text", "without a message"),
        ({"message": "m"}, "without id or timestamp"),
        ({"id": 1, "timestamp": "2026", "message": "m"}, "without id or timestamp"),
    ],
)
def test_odd_events_are_told(event: object, told: str) -> None:
    """A message is kept though it lacks its id; what has no message is not one."""
    good = {"id": "2", "timestamp": 2, "message": "good"}
    whole = {"messageType": "DATA_MESSAGE", "logEvents": [event, good]}
    events = log_events(json.dumps(whole).encode())
    assert [one.message for one in events][-1] == "good"
    assert told in events.notices[0].reason


def test_half_a_surrogate_pair_is_written_out_and_told() -> None:
    """JSON allows what no text can hold."""
    events = log_events(document(0, ["x"]).replace(b'"x"', b'"\\ud800 x"'))
    assert [one.message for one in events] == ["\\ud800 x"]
    assert "written out" in events.notices[0].reason


def test_a_failed_record_that_is_not_base64_is_told() -> None:
    """The others are read."""
    broken = b'{"errorCode":"x","rawData":"%%%"}\n'
    batches = LogBatches(broken + FORMS["errors"])
    assert sum(len(batch.messages) for batch in batches) == 25
    assert (batches.failed_records, len(batches.notices)) == (6, 1)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(
            st.sampled_from(sorted(FORMS)), st.integers(0, 10_000), st.binary(max_size=8)
        ).map(lambda one: _spoilt(FORMS[one[0]], one[1], one[2])),
    )
)
def test_no_bytes_raise_an_exception(data: bytes) -> None:
    """Whatever an object holds, its events are text, and what is not read is told."""
    events = log_events(data)
    for event in events:
        event.message.encode()
    assert all(notice.offset >= 0 for notice in events.notices)


def _spoilt(data: bytes, at: int, patch: bytes) -> bytes:
    place = at % len(data)
    return data[:place] + patch + data[place + len(patch) // 2 :]


def test_lines_of_a_batch() -> None:
    """Each message is one, whether or not it brings its own line end."""
    batches = LogBatches(document(0, ["a", "b\n", "", "c"]))
    assert b"".join(batch.lines() for batch in batches) == b"a\nb\n\nc\n"


# --- from end to end ------------------------------------------------------------------------------


def test_from_a_log_group_to_events() -> None:
    """Log group → subscription filter → Firehose → S3 → events, all over HTTP.

    moto writes an object at once, where Firehose waits for its buffer, sends no control message,
    and is wrong about ids: they are numbers that count up, where CloudWatch gives the texts that
    FilterLogEvents has.
    """
    with moto_server() as url:
        logs, firehose, s3 = (client_at(url, one) for one in ("logs", "firehose", "s3"))
        s3.create_bucket(
            Bucket="envoy-logs", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        role = "arn:aws:iam::123456789012:role/firehose"
        stream = firehose.create_delivery_stream(
            DeliveryStreamName="envoy",
            ExtendedS3DestinationConfiguration={
                "RoleARN": role,
                "BucketARN": "arn:aws:s3:::envoy-logs",
            },
        )
        put(logs, "/fire", 0, [])
        logs.put_subscription_filter(
            logGroupName="/fire",
            filterName="all",
            filterPattern="",
            destinationArn=stream["DeliveryStreamARN"],
        )
        first = int(time.time() * 1000) - 60_000
        messages = [f'{{"n":{number},"path":"/v1/ä"}}' for number in range(2500)]
        put(logs, "/fire", first, messages)
        keys = [one["Key"] for one in s3.list_objects_v2(Bucket="envoy-logs")["Contents"]]
        objects = (s3.get_object(Bucket="envoy-logs", Key=key)["Body"] for key in sorted(keys))
        events = [event for one in objects for event in log_events(one)]
    assert sorted(event.message for event in events) == sorted(messages)
    assert len({event.event_id for event in events}) == 2500
    assert {event.timestamp_us for event in events} == {(first + n) * 1000 for n in range(2500)}
    assert {(event.log_group, event.log_stream) for event in events} == {("/fire", "task/1")}
