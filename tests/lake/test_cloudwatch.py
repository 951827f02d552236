"""Reading CloudWatch Logs through the API: all pages, late events, what goes wrong."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.cloudwatch import (
    OVERLAP_MS,
    VISIBLE_MS,
    LogQuery,
    read_events,
    read_new,
    read_pages,
    time_slices,
)
from tests.lake.aws_lab import (
    GROUP,
    REGION,
    STREAM,
    Answer,
    client_at,
    event,
    moto_server,
    put,
    refusal,
    scripted_logs,
)

MINUTE = 60_000
NOON = 1_795_348_800_000
QUERY = LogQuery(log_group=GROUP, start_ms=NOON, end_ms=NOON + 60 * MINUTE)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A server of CloudWatch Logs."""
    with moto_server() as url:
        yield url


def of_page(number: int) -> dict[str, Any]:
    """A page of one event."""
    return {"events": [event(number, NOON + number)]}


# --- against moto ---------------------------------------------------------------------------------


def test_all_pages_are_read(moto: str) -> None:
    """Three thousand events in pages of 250, each once, with what CloudWatch knows of them."""
    client = client_at(moto)
    first = int(time.time() * 1000) - 10 * MINUTE
    messages = [f'{{"n":{number},"path":"/v1/ä"}}' for number in range(3000)]
    put(client, "/pages", first, messages)
    query = LogQuery(log_group="/pages", start_ms=first, end_ms=first + 10 * MINUTE, page_size=250)
    assert len(list(read_pages(client, query))) == 12
    events = list(read_events(client, query))
    assert [one.message for one in events] == messages
    assert len({one.event_id for one in events}) == 3000
    assert {(one.log_group, one.log_stream) for one in events} == {("/pages", STREAM)}
    assert events[7].timestamp_us == (first + 7) * 1000


def test_slices_have_every_event_once(moto: str) -> None:
    """Slices meet at a millisecond that belongs to one of them: the API's end is inclusive."""
    client = client_at(moto)
    first = int(time.time() * 1000) - 10 * MINUTE
    put(client, "/slices", first, [str(number) for number in range(1000)])
    query = LogQuery(log_group="/slices", start_ms=first, end_ms=first + 1000)
    slices = time_slices(query, 70)
    assert len(slices) == 15
    found = [one.message for part in slices for one in read_events(client, part)]
    assert found == [str(number) for number in range(1000)]


def test_quick_parsing_changes_nothing(moto: str) -> None:
    """Events are as the client's own parser makes them, and the client is left as it was."""
    client = client_at(moto)
    first = int(time.time() * 1000) - 10 * MINUTE
    put(client, "/same", first, ["plain", 'tab\tquote"', "ä€😀", "a\nb", "\u2028"])
    query = LogQuery(log_group="/same", start_ms=first, end_ms=first + MINUTE)
    (ours,) = read_pages(client, query)
    assert ours == client.filter_log_events(**query.request())["events"]


def test_reading_goes_on_where_it_stopped(moto: str) -> None:
    """What was read is not read again; an event that came late is, by a state that is JSON."""
    client = client_at(moto)
    now = int(time.time() * 1000)
    start = LogQuery(log_group="/resumed", start_ms=now - 30 * MINUTE, end_ms=0)
    put(client, "/resumed", now - 5 * MINUTE, ["a", "b"])
    state: dict[str, Any] = {}
    told = []
    for more in ([], ["late"], [], ["later"]):
        put(client, "/resumed", now - 9 * MINUTE, more, stream="another")
        reading = read_new(client, start, state, now_ms=int(time.time() * 1000))
        told.append([one["message"] for page in reading for one in page])
        state = json.loads(json.dumps(reading.state))
    assert told == [["a", "b"], ["late"], [], ["later"]]


def test_a_group_that_does_not_exist(moto: str) -> None:
    """The error names group and region, and says how to find the right one."""
    with pytest.raises(LakeError, match=f"/none in region {REGION}: there is no such") as told:
        list(read_events(client_at(moto), replace(QUERY, log_group="/none")))
    assert f"describe-log-groups --region {REGION}" in told.value.advice


# --- against a server that misbehaves -------------------------------------------------------------


def test_an_empty_page_is_not_the_end() -> None:
    """Only a missing token is."""
    pages = {
        None: {"events": [], "nextToken": "1"},
        "1": {**of_page(1), "nextToken": "2"},
        "2": {"events": [], "nextToken": "3"},
        "3": of_page(3),
    }
    with scripted_logs(lambda request: (200, pages[request.get("nextToken")])) as url:
        found = [one.message for one in read_events(client_at(url), QUERY)]
    assert found == ["line 1", "line 3"]


def test_throttling_is_waited_for() -> None:
    """botocore's own retries: a throttled request is asked again."""
    answers = iter([refusal("ThrottlingException"), (200, of_page(1))])
    with scripted_logs(lambda _: next(answers)) as url:
        assert len(list(read_events(client_at(url), QUERY))) == 1


@pytest.mark.parametrize(
    ("code", "what", "advice"),
    [
        ("ThrottlingException", "throttles requests", "read fewer slices"),
        ("AccessDeniedException", "access is denied", "allow logs:FilterLogEvents"),
        ("ExpiredTokenException", "credentials have expired", "sign in again"),
        ("UnrecognizedClientException", "not valid", "get-caller-identity"),
        ("com.amazon#ResourceNotFoundException", "no such group", "describe-log-groups"),
        ("InvalidParameterException", "InvalidParameterException: no", "filter-log-events"),
    ],
)
def test_what_goes_wrong_is_told(code: str, what: str, advice: str) -> None:
    """Which group, where, why, and what to do next."""
    expected = f"{GROUP} in region {REGION}: .*{what}"
    with (
        scripted_logs(lambda _: refusal(code)) as url,
        pytest.raises(LakeError, match=expected) as told,
    ):
        list(read_events(client_at(url, tries=2), QUERY))
    assert advice in told.value.advice


def test_an_endpoint_that_is_not_there() -> None:
    """An error of the network names the group too."""
    with scripted_logs(lambda _: refusal("x")) as url:
        pass
    with pytest.raises(LakeError, match=f"{GROUP} in region {REGION}: its endpoint"):
        list(read_events(client_at(url, tries=1), QUERY))


def test_half_a_surrogate_pair_is_written_out() -> None:
    """JSON allows what no text can hold; the client's own parser reads it."""
    page = {"events": [{**event(1, NOON), "message": "\ud800 /path"}]}
    with scripted_logs(lambda _: (200, page)) as url:
        (one,) = read_events(client_at(url), QUERY)
    assert one.message == "\\ud800 /path"


def taken_in_by(events: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Answer]:
    """A log group that has these events, in pages of two."""

    def answer(request: dict[str, Any]) -> Answer:
        found = [
            one for one in events if request["startTime"] <= one["timestamp"] <= request["endTime"]
        ]
        at = int(request.get("nextToken", 0))
        more = {"nextToken": str(at + 2)} if at + 2 < len(found) else {}
        return 200, {"events": found[at : at + 2], **more}

    return answer


def test_late_events_are_found_once() -> None:
    """Late by when they were taken in or by when they were shown; the same whatever the order."""
    events = [event(number, NOON + number * MINUTE) for number in range(10)]
    now = NOON + 10 * MINUTE
    told: list[list[str]] = []
    with scripted_logs(taken_in_by(events)) as url:
        client, state = client_at(url), dict[str, Any]()
        more = [
            [],
            [event(20, NOON + 2 * MINUTE, taken_in=now + 1)],  # late by eight minutes
            [event(21, NOON + 9 * MINUTE, taken_in=now - MINUTE)],  # shown late by a minute
            [],
        ]
        for number, late in enumerate(more):
            events += late
            reading = read_new(client, QUERY, state, now_ms=now + number * 1000)
            told.append([one["eventId"][-2:] for page in reading for one in page])
            state = reading.state
    assert told == [[f"{number:02d}" for number in range(10)], ["20"], ["21"], []]


def test_the_state_stays_small() -> None:
    """It holds ids of what was taken in during the last two minutes, not of all that was read."""
    events = [event(number, NOON + number * 1000) for number in range(600)]
    with scripted_logs(taken_in_by(events)) as url:
        reading = read_new(client_at(url), QUERY, {}, now_ms=NOON + 600_000)
        assert sum(len(page) for page in reading) == 600
    ids = reading.state["recent"]
    assert len(ids) == pytest.approx(VISIBLE_MS // 1000 * 8 * 4 / 3, abs=16)


def test_a_reading_that_was_cut_off_is_done_again() -> None:
    """The state is the next one only when all was read."""
    events = [event(number, NOON + number) for number in range(6)]
    with scripted_logs(taken_in_by(events)) as url:
        reading = read_new(client_at(url), QUERY, {}, now_ms=NOON + MINUTE)
        assert len(list(itertools.islice(iter(reading), 1))) == 1
        assert reading.state == {}


def test_a_late_event_is_looked_for_so_far_back() -> None:
    """What is asked for begins a quarter of an hour, and what is shown late, before the last."""
    asked = []

    def answer(request: dict[str, Any]) -> Answer:
        asked.append(request["startTime"])
        return 200, {"events": []}

    through = NOON + 120 * MINUTE
    state = {"version": 1, "log_group": GROUP, "taken_in_through_ms": through, "recent": ""}
    with scripted_logs(answer) as url:
        list(read_new(client_at(url), QUERY, state, now_ms=through))
    assert asked == [through - VISIBLE_MS - OVERLAP_MS]


def test_the_state_of_another_group_is_refused() -> None:
    """It would leave out what this group has."""
    state = {"version": 1, "log_group": "/other", "taken_in_through_ms": 1, "recent": ""}
    with pytest.raises(LakeError, match="of /other"):
        list(read_new(None, QUERY, state, now_ms=NOON))


# --- the client -----------------------------------------------------------------------------------

MAKE = "from meshml_dbx.connect.aws import logs_client; client = logs_client({arguments}); "


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, whose environment has no keys but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_client_is_made_by_the_usual_chain(moto: str) -> None:
    """Region and keys from the environment, the endpoint as given; it has patience."""
    code = MAKE.format(arguments=f"endpoint_url={moto!r}") + (
        "print(client.describe_log_groups()['ResponseMetadata']['HTTPStatusCode'], "
        "client.meta.region_name, client.meta.config.retries)"
    )
    keys = {"AWS_ACCESS_KEY_ID": "AKIDNOTREAL", "AWS_SECRET_ACCESS_KEY": "not-a-key"}
    done = run(code, AWS_DEFAULT_REGION=REGION, **keys)
    expected = f"200 {REGION} {{'mode': 'adaptive', 'total_max_attempts': 10}}\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_without_keys_the_error_says_so() -> None:
    """Nothing is sent, and the way to give keys is named."""
    code = MAKE.format(arguments=f"region={REGION!r}") + (
        "from meshml_dbx.lake.cloudwatch import *; "
        "list(read_events(client, LogQuery(log_group='/g', start_ms=0, end_ms=9)))"
    )
    assert "/g in region eu-west-1: there are no credentials\n  next: name a" in run(code).stderr


def test_without_a_region_the_error_says_so() -> None:
    """And names one."""
    assert "next: name the region, e.g. eu-west-1" in run(MAKE.format(arguments="")).stderr


def test_without_boto3_the_extra_is_named() -> None:
    """boto3 is an extra of its own."""
    done = run("import sys; sys.modules['boto3'] = None; " + MAKE.format(arguments=""))
    assert "MissingToolError" in done.stderr
    assert 'pip install "meshml_dbx[aws]"' in done.stderr
