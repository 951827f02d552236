"""Where the time of a call went."""

from random import Random

import numpy as np

from meshml_dbx.diagnosis.breakdown import PARTS, break_down
from meshml_dbx.diagnosis.table import table_of
from meshml_dbx.traffic.call import Attempt, Call
from meshml_dbx.traffic.evidence import CallColumns
from tests.diagnosis.hand_made import BEGIN, SIDECAR, call

WHOLE = (BEGIN, BEGIN + 10**12)


def parts_of(*calls: Call, attempts: tuple[Attempt, ...] = ()) -> list[dict[str, int]]:
    """The parts of each call that are not nothing."""
    table = table_of(CallColumns.of(calls), span=WHOLE)
    parts = break_down(table, attempts)
    return [
        {name: int(parts[name][row]) for name in PARTS if parts[name][row]}
        for row in range(len(calls))
    ]


def test_parts_sum_to_the_duration_whatever_the_fields_say() -> None:
    """Missing, contradictory or excessive fields never break the sum or make a part negative."""
    random = Random(3)
    fields = ("to_upstream_us", "send_us", "first_byte_us", "receive_us", "connect_us", "tls_us")
    made = [
        call(
            number,
            random.randrange(200),
            flags=random.choice(["-", "UF", "UC", "URX,UT"]),
            attempts=random.randrange(5),
            pool_ready_ms=random.choice([None, 0, 7, 500]),
            upstream_connection_id=random.choice([None, 0, 1, 2]),
            **{name: random.choice([None, 0, 90, 40_000, 900_000]) for name in fields},
        )
        for number in range(500)
    ]
    table = table_of(CallColumns.of(made), span=WHOLE)

    parts = break_down(table)

    assert sum(parts.values(), np.zeros(500, dtype=np.int64)).tolist() == table.duration.tolist()
    assert all((part >= 0).all() for part in parts.values())


def test_connect_and_tls_count_on_the_first_call_of_a_connection_only() -> None:
    """Envoy repeats a connection's times on each call that reuses it."""
    times = {"connect_us": 3_000, "tls_us": 9_000}
    first = call(0, 50, pool_ready_ms=12, to_upstream_us=13_000, first_byte_us=36_000, **times)
    again = call(60_000, 50, **times)

    one, two = parts_of(first, again)

    assert {"connect": 3_000, "tls": 9_000}.items() <= one.items()
    assert not {"connect", "tls"} & two.keys()


def test_a_connection_opened_before_the_run_costs_the_run_nothing() -> None:
    """A call whose connection was ready at once did not wait for the handshake it reports."""
    (parts,) = parts_of(call(0, 50, pool_ready_ms=0, connect_us=3_000, tls_us=9_000))

    assert not {"connect", "tls"} & parts.keys()


def test_two_sidecars_number_their_connections_for_themselves() -> None:
    """The same connection number at two sidecars is two connections."""
    opened = {"connect_us": 3_000, "pool_ready_ms": 3}
    one, two = parts_of(call(0, 50, **opened), call(9, 50, sidecar_id="other-1", **opened))

    assert one["connect"] == two["connect"] == 3_000


def test_the_rest_of_the_pool_s_time_is_waiting_for_a_connection() -> None:
    """What the pool took beyond connect and TLS is a wait for one of its connections."""
    (parts,) = parts_of(call(0, 100, pool_ready_ms=60, to_upstream_us=61_000, first_byte_us=38_000))

    assert parts["pool_wait"] == 60_000


def test_earlier_attempts_are_the_time_before_the_last_began() -> None:
    """With attempt lines the last attempt's begin is known; without, the time until it was sent."""
    retried = call(0, 900, attempts=3, to_upstream_us=700_000, first_byte_us=199_000)
    lines = tuple(
        Attempt(
            start_time=BEGIN + at_us,
            observer="egress",
            sidecar_id=SIDECAR,
            request_id=retried.request_id,
            attempt=number,
        )
        for number, at_us in ((1, 100), (2, 300_000), (3, 690_000))
    )

    (with_lines,) = parts_of(retried, attempts=lines)
    (without,) = parts_of(retried)

    assert with_lines["earlier_attempts"] == 690_000
    assert without["earlier_attempts"] == 700_000


def test_an_attempt_of_another_call_with_the_same_id_does_not_count() -> None:
    """A program may send its own request id twice; only attempts within the call are its own."""
    retried = call(0, 100, attempts=2, to_upstream_us=40_000, first_byte_us=59_000)
    foreign = Attempt(
        start_time=BEGIN + 5_000_000,
        observer="egress",
        sidecar_id=SIDECAR,
        request_id=retried.request_id,
        attempt=2,
    )

    (parts,) = parts_of(retried, attempts=(foreign,))

    assert parts["earlier_attempts"] == 40_000


def test_a_first_byte_that_never_came_was_waited_for_until_the_end() -> None:
    """A call that timed out spent its time waiting for the first byte."""
    (parts,) = parts_of(call(0, 5000, first_byte_us=None, receive_us=None, code=504, flags="UT"))

    assert parts["first_byte"] == 5_000_000 - 200


def test_a_connection_that_never_came_is_connect_time() -> None:
    """A call that never reached the upstream spent its time connecting."""
    (parts,) = parts_of(
        call(0, 1000, to_upstream_us=None, first_byte_us=None, code=503, flags="UF")
    )

    assert parts == {"connect": 1_000_000}


def test_no_calls_no_parts() -> None:
    """An empty run breaks down into nothing."""
    table = table_of(CallColumns.of([]), span=WHOLE)

    assert all(len(part) == 0 for part in break_down(table).values())
    assert isinstance(break_down(table)["other"], np.ndarray)
