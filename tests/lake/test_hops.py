"""Hops in SQL are those of the pure rule, and a run's calls are followed out of the lake."""

from collections import defaultdict
from dataclasses import asdict

import pytest

from meshml_dbx.lake.hops import calls_around, create_hops
from meshml_dbx.lake.spans import Span
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns
from meshml_dbx.traffic.hops import link_hops
from meshml_dbx.traffic.trail import follow, slowest
from tests.lake.conftest import Lab
from tests.lake.writing import line
from tests.traffic.made_hops import make_world

pytestmark = pytest.mark.spark


def write_calls(lab: Lab, calls: list[Call]) -> None:
    """Closed files of these calls, one for each sidecar."""
    by_sidecar: dict[str, list[str]] = defaultdict(list)
    for call in calls:
        values = {name: value for name, value in asdict(call).items() if value is not None}
        del values["type"]
        by_sidecar[call.sidecar_id].append(line("call", call.type, **values))
    for sidecar_id, lines in by_sidecar.items():
        writer = lab.writer(sidecar_id=sidecar_id)
        writer.lines.extend(lines)
        writer.close()


def key_of(call: Call) -> tuple[object, ...]:
    """What tells a call from the others."""
    return call.request_id, call.start_time, call.observer, call.sidecar_id


def test_sql_links_what_the_rule_links(lab: Lab) -> None:
    """Parents, how they are known and own times are equal, and so is what is followed."""
    calls = [call for seed in range(3) for call in make_world(seed, 40).calls]
    write_calls(lab, calls)
    lab.ingest()
    create_hops(lab.spark, lab.names)
    span = "TIMESTAMP '2026-11-22 11:59:00', TIMESTAMP '2026-11-22 12:30:00'"
    query = f"SELECT *, unix_micros(start_time) AS begun FROM {lab.names.schema}.hops({span})"  # noqa: S608
    rows = lab.spark.sql(query).collect()
    keys = {
        row["call"]: (row["request_id"], row["begun"], row["observer"], row["sidecar_id"])
        for row in rows
    }
    found = {
        keys[row["call"]]: (keys.get(row["parent"]), row["how"], row["self_us"]) for row in rows
    }
    hops = link_hops(calls)
    expected = {
        key_of(hop.call): (
            None if hop.parent is None else key_of(calls[hop.parent]),
            hop.how,
            hop.self_us,
        )
        for hop in hops
    }
    assert found == expected
    assert {hop.how for hop in hops} == {"request", "trace", "inferred", "ambiguous", None}
    roots = slowest(CallColumns.of(calls[:1]), at_most=5)
    roots += slowest(CallColumns.of(call for call in calls[-100:] if call.client), at_most=5)
    spans = [Span(start=root.start_time, end=root.end_time) for root in roots]
    around = calls_around(lab.spark, lab.names, spans)
    assert len(around) < len(calls)
    told, wanted = (
        [[(s.depth, key_of(s.hop.call)) for s in trail.steps] for trail in follow(of, roots)]
        for of in (around, calls)
    )
    assert told == wanted
    assert max(depth for trail in told for depth, _ in trail) >= 3
