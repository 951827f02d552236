"""Lines in the shape that Envoy 1.40 writes, and lines of every key made from the one table.

``EGRESS_CALL`` is written by hand after such lines; the demo's recording has real ones.
``CLIENT_CALL`` is what a process that records itself writes of such a call. ``full_line`` has every
key of a table, each with a value of its own kind.
"""

from collections.abc import Mapping

from meshml_dbx.traffic.access_log import Field

TIME = "2026-11-23T05:08:42.566797Z"
MICROS = 1_795_410_522_566_797

EGRESS_CALL: Mapping[str, object] = {
    "_record": "call",
    "_type": "DownstreamEnd",
    "attempt": "1",
    "attempts": 1,
    "authority": "labels.ml.local",
    "bytes_in": 0,
    "bytes_out": 2048,
    "client": "churn-training",
    "code": 200,
    "connect_us": 301,
    "connection_id": 12,
    "details": "via_upstream",
    "downstream_address": "127.0.0.1:50912",
    "downstream_peer": None,
    "duration_ms": 40,
    "environment": "dev",
    "first_byte_us": 39103,
    "flags": "-",
    "mesh": "ml",
    "mesh_version": "5d41402a",
    "method": "GET",
    "observer": "egress",
    "origin": None,
    "origin_flags": None,
    "overhead_us": 211,
    "path": "/v1/labels/2026-11-23",
    "pool_ready_ms": 0,
    "process_id": "0d3a5c1e-7f8b-4a53-9a6e-2f1f4f0f7f11",
    "protocol": "HTTP/1.1",
    "receive_request_us": 14,
    "receive_us": 88,
    "request_id": "6b1f6e43-5f0a-9d1c-8f2a-3c9f5e7a1b2c",
    "respond_us": 95,
    "route": "by-day",
    "run_id": None,
    "send_us": 20,
    "sidecar_id": "churn-training-0a1b2c3d",
    "stage": None,
    "start_time": TIME,
    "target": "labels-v2",
    "tls_us": 1822,
    "to_upstream_us": 225,
    "total_us": 40123,
    "trace_parent": None,
    "upstream_cluster": "labels-v2_ml_http_18082",
    "upstream_connection_id": 7,
    "upstream_failure": None,
    "upstream_host": "127.0.0.1:18082",
    "upstream_local_address": "127.0.0.1:41344",
    "upstream_peer": "spiffe://ml/labels-v2",
    "virtual_node": None,
    "virtual_service": "labels.ml.local",
}

_OF_THE_PROXY = ("downstream_address", "overhead_us", "receive_request_us", "respond_us", "route")
CLIENT_CALL: Mapping[str, object] = {
    **EGRESS_CALL,
    **dict.fromkeys((*_OF_THE_PROXY, "mesh", "mesh_version", "target", "upstream_cluster")),
    "observer": "client",
    "attempt": 1,
    "authority": "data.s3.eu-central-1.amazonaws.com",
    "details": None,
    "flags": None,
    "resource": 4_611_686_018_427_387_903,
    "spark_attempt": 0,
    "spark_partition": 3,
    "spark_stage": 12,
    "thread": "ThreadPoolExecutor-0_1",
    "virtual_service": "S3 bucket data",
}

OF_KIND: Mapping[str, object] = {"number": 7, "time": TIME}


def full_line(fields: tuple[Field, ...]) -> dict[str, object]:
    """A decoded line in which every key of the table has a value that tells it apart."""
    return {f.json_key(): OF_KIND.get(f.kind, f"some {f.column}") for f in fields}
