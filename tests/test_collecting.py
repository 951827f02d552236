"""Logs that others write come into the log folder: once, with what a user said of them."""

import gzip
import os
import time
from pathlib import Path

import pytest

from meshml_dbx.collecting import AwsAccess, Foreign, collect
from meshml_dbx.errors import LogFolderError, LogFormatError, UnknownNameError
from meshml_dbx.settings import Settings, read_settings
from meshml_dbx.traffic.log_source import SOURCE_FILE, LogSource
from tests.lake.aws_lab import KEYS, REGION, client_at, moto_server, put
from tests.lake.test_bucket import WHERE
from tests.lake.test_firehose import GROUP, document

LINE = (
    '[2026-03-04T09:15:{:02}.114Z] "GET /v1/x HTTP/1.1" 200 - 10 322 41 39 "-" "trainer/1.4" '
    '"r{}" "labels.ml:8080" "10.0.12.31:8080"\n'
)
NOW = 1_800_000_000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose state lies in a folder of the test."""
    return read_settings({}, state=str(tmp_path / "state"))


def lines(first: int, last: int) -> str:
    """Lines of Envoy's default format."""
    return "".join(LINE.format(number, number) for number in range(first, last))


def write(path: Path, text: str) -> None:
    """A log whose last change is long ago."""
    path.write_text(text)
    os.utime(path, (NOW - 3600, NOW - 3600))


def take(settings: Settings, *places: Path, log_format: str | None = None) -> tuple[int, str]:
    """How many files came, and all their text."""
    source = LogSource(source_id="edge", observer="gateway", mesh="ml")
    foreign = Foreign(places=tuple(map(str, places)), source=source, log_format=log_format)
    said: list[str] = []
    told = collect(settings, foreign, now=NOW, say=said.append)
    closed = settings.logs / "edge" / "closed"
    return told.files, "".join(path.read_text() for path in sorted(closed.iterdir()))


def test_each_line_comes_once_through_rotation_and_gzip(settings: Settings, tmp_path: Path) -> None:
    """What grows is read on; what was rotated and gzipped is not read again."""
    logs = tmp_path / "envoy"
    logs.mkdir()
    write(logs / "access.log", lines(0, 20))
    assert take(settings, logs) == (1, lines(0, 20))
    write(logs / "access.log", lines(0, 30))
    assert take(settings, logs)[0] == 1
    (logs / "access.log.1.gz").write_bytes(gzip.compress((logs / "access.log").read_bytes()))
    write(logs / "access.log", lines(40, 50))
    assert take(settings, logs)[0] == 1
    assert take(settings, logs)[0] == 0
    found = take(settings, logs)[1]
    assert sorted(found.splitlines()) == sorted((lines(0, 30) + lines(40, 50)).splitlines())


def test_what_a_user_says_is_noted(settings: Settings, tmp_path: Path) -> None:
    """The source's note has its format, detected or given, the newest first."""
    write(tmp_path / "a.log", lines(0, 20))
    take(settings, tmp_path / "a.log")
    note = settings.logs / "edge" / SOURCE_FILE
    told = LogSource.from_json(note.read_text())
    assert (told.mesh, told.observer, dict(told.formats)) == (
        "ml",
        "gateway",
        {"envoy-default": ""},
    )
    own = "%START_TIME% %RESPONSE_CODE%"
    take(settings, tmp_path / "a.log", log_format=own)
    newest, *rest = LogSource.from_json(note.read_text()).log_formats
    assert (newest.source, [it.name for it in rest]) == (own, ["envoy-default"])


def test_bad_wishes_are_refused_in_words(settings: Settings, tmp_path: Path) -> None:
    """A place that is not there, a name that cannot be one, a format that is none."""
    with pytest.raises(LogFolderError, match="nowhere"):
        take(settings, tmp_path / "nowhere")
    with pytest.raises(LogFormatError, match="position 0"):
        take(settings, tmp_path, log_format="%nonsense%")
    with pytest.raises(UnknownNameError, match="nginx"):
        take(settings, tmp_path, log_format="nginx")
    foreign = Foreign(places=(str(tmp_path),), source=LogSource(source_id="../x"))
    with pytest.raises(LogFolderError, match="cannot be the name"):
        collect(settings, foreign, now=NOW, say=print)
    (settings.logs / "churn-1" / "live").mkdir(parents=True)
    foreign = Foreign(places=(str(tmp_path),), source=LogSource(source_id="churn-1"))
    with pytest.raises(LogFolderError, match="a sidecar's log"):
        collect(settings, foreign, now=NOW, say=print)


def test_places_of_several_kinds_in_one_go(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log group, a bucket and a folder in which Firehose's files lie: each its own source.

    What is told of each: its places, and the log groups that the envelopes name.
    """
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "firehose-1").write_bytes(gzip.compress(document(0, lines(0, 3).splitlines())))
    now = time.time()
    os.utime(folder / "firehose-1", (now - 3600, now - 3600))
    with moto_server() as url:
        logs, s3 = client_at(url), client_at(url, "s3")
        put(logs, "/ml/edge", int(now * 1000) - 60_000, lines(3, 5).splitlines())
        s3.create_bucket(Bucket="mesh-logs", CreateBucketConfiguration=WHERE)
        s3.put_object(Bucket="mesh-logs", Key="a/1", Body=document(9, lines(5, 9).splitlines()))
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        places = ("cloudwatch:/ml/edge", str(folder), "s3://mesh-logs/a/")
        foreign = Foreign(
            places=places,
            source=LogSource(source_id="", observer="gateway"),
            aws=AwsAccess(region=REGION, endpoint_url=url),
        )
        told = collect(settings, foreign, now=now, say=print)
        again = collect(settings, foreign, now=now, say=print)
    assert (told.files, told.sources) == (3, ("ml-edge", "others", "mesh-logs"))
    assert (again.files, told.notices, told.formats) == (0, (), ("envoy-default",))
    found, origins = {}, {}
    for name in told.sources:
        (file,) = (settings.logs / name / "closed").iterdir()
        note = LogSource.from_json((settings.logs / name / SOURCE_FILE).read_text())
        found[name], origins[name] = file.read_text(), note.origins
        assert note.observer == "gateway"
    assert found == {"ml-edge": lines(3, 5), "others": lines(0, 3), "mesh-logs": lines(5, 9)}
    assert origins == {
        "ml-edge": ("cloudwatch:/ml/edge",),
        "others": (str(folder), f"cloudwatch:{GROUP}"),
        "mesh-logs": ("s3://mesh-logs/a/", f"cloudwatch:{GROUP}"),
    }
