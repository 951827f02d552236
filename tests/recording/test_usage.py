"""How often each way was used, counted from a log folder."""

from pathlib import Path

from meshml_dbx.recording.usage import read_usages
from meshml_dbx.traffic.usage import Usage
from tests.log_writing import T0, Writer, line_of


def write(writer: Writer, *lines: bytes) -> None:
    """One live file with these lines."""
    writer.folder.live.mkdir(parents=True, exist_ok=True)
    (writer.folder.live / "access.jsonl").write_bytes(b"".join(lines))


def test_calls_that_agree_are_counted_together(tmp_path: Path) -> None:
    """Finished calls count, with their first and last moment; starts and noise do not."""
    writer = Writer(logs=tmp_path)
    write(
        writer,
        writer.call(0, "DownstreamStart"),
        *(writer.call(number) for number in range(5)),
        writer.call(9, target="labels-v1", upstream_peer="spiffe://ml/labels-v1"),
        b"noise\n",
    )
    usages, versions = read_usages(tmp_path)
    common = {
        "observer": "egress",
        "mesh": "ml",
        "mesh_version": "v1",
        "client": "churn-training",
        "virtual_service": "labels.ml.local",
        "route": "by-day",
    }
    assert usages == (
        Usage(
            **common,
            target="labels-v1",
            upstream_peer="spiffe://ml/labels-v1",
            calls=1,
            first=T0 + 9000,
            last=T0 + 9000,
        ),
        Usage(**common, target="labels-v2", calls=5, first=T0, last=T0 + 4000),
    )
    assert versions == frozenset()


def test_a_call_without_a_service_has_its_host(tmp_path: Path) -> None:
    """What met no virtual service is told apart by the host called; tunnels are not calls."""
    writer = Writer(logs=tmp_path)
    foreign = {"virtual_service": None, "route": "meshml:drop-all", "target": None}
    write(
        writer,
        writer.call(1, authority="Example.org", **foreign),
        writer.call(2, authority="pypi.example:443", method="CONNECT", **foreign),
    )
    usages, _ = read_usages(tmp_path)
    assert [(it.host, it.calls) for it in usages] == [("example.org", 1)]


def test_only_what_began_since(tmp_path: Path) -> None:
    """Older calls are left out; the versions that documents are known of are not."""
    writer = Writer(logs=tmp_path)
    document = line_of(
        "mesh", "declared", time=T0, sidecar_id=writer.sidecar_id, mesh="ml", mesh_version="v1"
    )
    write(writer, document, writer.call(0), writer.call(7))
    usages, versions = read_usages(tmp_path, since=T0 + 5000)
    assert ([it.calls for it in usages], versions) == ([1], frozenset({"v1"}))
