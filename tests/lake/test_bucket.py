"""Objects of a bucket become closed files, each once, whatever they hold and what becomes of them.

Where moto 5 is wrong about S3: it never throttles, knows no other region, and takes any key.
What depends on these is tested by the words that errors are told in.
"""

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.bucket import Brought, LogObject, explain, follow_bucket
from meshml_dbx.lake.places import BucketPlace
from tests.lake.aws_lab import REGION, client_at, moto_server
from tests.lake.test_envelope import EVERY
from tests.lake.test_firehose import GROUP, MEMBERS

WHERE = {"LocationConstraint": REGION}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A server of S3."""
    with moto_server() as url:
        yield url


class Desk:
    """A folder that follows a bucket of its own."""

    def __init__(self, root: Path, url: str, bucket: str, prefix: str = "") -> None:
        self.client = client_at(url, "s3")
        self.place = BucketPlace(bucket=bucket, prefix=prefix)
        self.closed, self.state = root / "closed", root / "state.json"
        self.closed.mkdir()
        self.said: list[str] = []
        self.client.create_bucket(Bucket=bucket, CreateBucketConfiguration=WHERE)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.place.bucket, Key=key, Body=data)

    def follow(self, client: Any = None, since_s: float | None = None) -> Brought:
        return follow_bucket(
            client or self.client,
            self.place,
            state_file=self.state,
            closed=self.closed,
            since_s=since_s,
            say=self.said.append,
        )

    def lines(self) -> list[bytes]:
        found = (path.read_bytes().splitlines() for path in self.closed.glob("*.log"))
        return sorted(line for lines in found for line in lines)


def test_each_object_comes_once_whatever_it_holds(moto: str, tmp_path: Path) -> None:
    """Lines, compressed or not, and envelopes; the suffix says nothing. Changed ones come again."""
    desk = Desk(tmp_path, moto, "each-once", "in/")
    for key, data in {
        "in/plain.gz": b"a\nb\n",
        "in/packed.log": gzip.compress(b"c\nd\n"),
        "in/2026/firehose-1": MEMBERS,
        "in/folder/": b"",
        "in/empty": b"",
        "out/other": b"no\n",
    }.items():
        desk.put(key, data)
    told = desk.follow()
    assert (len(told.files), told.groups, told.notices) == (3, (GROUP,), ())
    assert desk.lines() == sorted([b"a", b"b", b"c", b"d", *EVERY.splitlines()])
    assert desk.follow().files == ()
    for path in desk.closed.iterdir():
        path.unlink()  # ingested, and removed by whoever needs the room
    assert desk.follow().files == ()
    desk.put("in/plain.gz", b"a\nb\ne\n")
    assert [path.read_bytes() for path in desk.follow().files] == [b"a\nb\ne\n"]
    desk.state.unlink()
    assert len(desk.follow().files) == 3
    assert desk.follow(since_s=4e9).listed == 0


def test_more_objects_than_a_page_has(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are listed; moto's have 30 objects here, S3's a thousand."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "30")
    desk = Desk(tmp_path, moto, "many-pages")
    for number in range(100):
        desk.put(f"b{number}", b"line %d\n" % number)
    answer = desk.client.list_objects_v2(Bucket="many-pages")
    assert (answer["KeyCount"], answer["IsTruncated"]) == (30, True)
    told = desk.follow()
    assert (len(told.files), told.listed, len(desk.lines())) == (100, 100, 100)


def test_a_kill_between_file_and_state(moto: str, tmp_path: Path) -> None:
    """A file that is there is not made again: its name says which object it is."""
    desk = Desk(tmp_path, moto, "killed-between")
    desk.put("x", b"a\n")
    (file,) = desk.follow().files
    before = file.stat().st_ino
    desk.state.unlink()
    assert desk.follow().files == (file,)
    assert (file.stat().st_ino, len(list(desk.closed.iterdir()))) == (before, 1)


class Meddling:
    """A client in whose hands objects change between listing and reading."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_object(self, **request: Any) -> Any:
        bucket, key = request["Bucket"], request["Key"]
        if key == "deleted":
            self._client.delete_object(Bucket=bucket, Key=key)
        if key == "written":
            self._client.put_object(Bucket=bucket, Key=key, Body=b"new\n")
        return self._client.get_object(**request)


def test_what_is_not_as_it_was_listed_is_told(moto: str, tmp_path: Path) -> None:
    """Deleted or written meanwhile: a notice each; the rest is read, the next time all is."""
    desk = Desk(tmp_path, moto, "meddled")
    for key in ("deleted", "kept", "written"):
        desk.put(key, b"old\n")
    told = desk.follow(Meddling(desk.client))
    assert [notice.split(": ", 1)[0] for notice in told.notices] == [
        "s3://meddled/deleted",
        "s3://meddled/written",
    ]
    assert ["deleted after" in it or "written anew" in it for it in told.notices] == [True, True]
    assert desk.lines() == [b"old"]
    assert desk.follow().notices == ()
    assert desk.lines() == [b"new", b"old"]


def test_errors_are_told_in_words(moto: str, tmp_path: Path) -> None:
    """No such bucket, from moto; what moto never says, by its code."""
    desk = Desk(tmp_path, moto, "errors")
    desk.place = replace(desk.place, bucket="no-such-bucket")
    with pytest.raises(LakeError, match="s3://no-such-bucket/: there is no such bucket"):
        desk.follow()
    for code, what, advice in (
        ("AccessDenied", "access is denied", "allow s3:ListBucket"),
        ("ExpiredToken", "have expired", "sign in again"),
        ("NoCredentialsError", "no credentials", "name a profile"),
        ("PermanentRedirect", "another region", "--region"),
        ("SlowDown", "throttles", "run it again"),
        ("Odd", "Odd: no", "aws s3 ls s3://b/"),
    ):
        told = explain({"Code": code, "Message": "no"}, desk.client, "s3://b/", "s3:ListBucket")
        assert what in told.message
        assert advice in told.advice


def test_an_object_is_its_content() -> None:
    """Another ETag is another object."""
    one = LogObject(bucket="logs", key="a", etag="x", size=1)
    assert one.name != replace(one, etag="y").name
