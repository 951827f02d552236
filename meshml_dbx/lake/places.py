"""Where logs that others write are: what a person types, told apart, and what to call its source.

Goes in: texts such as ``/var/log/envoy``, ``cloudwatch:/ml/envoy`` and ``s3://bucket/prefix``.
Comes out: values of one kind for each, in the order in which they were given.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from meshml_dbx.errors import LogFolderError

CLOUDWATCH, S3 = "cloudwatch:", ("s3://", "s3a://")
OTHERS = "others"
"""The source of files for which no name was given."""

_GROUP = re.compile(r"[A-Za-z0-9._/#-]{1,512}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlace:
    """A file, a folder with all beneath it, or a pattern.

    >>> FilePlace(pattern="/var/log/envoy").source_id
    'others'
    """

    pattern: str

    def __str__(self) -> str:
        return self.pattern

    @property
    def source_id(self) -> str:
        """What its source is called where nobody says."""
        return OTHERS


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlace:
    """A CloudWatch log group, or those of its streams that begin so.

    >>> str(GroupPlace(group="/ecs/ml", stream_prefix="envoy/"))
    'cloudwatch:/ecs/ml:envoy/'
    """

    group: str
    stream_prefix: str = ""

    def __str__(self) -> str:
        prefix = f":{self.stream_prefix}" if self.stream_prefix else ""
        return f"{CLOUDWATCH}{self.group}{prefix}"

    @property
    def source_id(self) -> str:
        """What its source is called where nobody says."""
        return name_of(self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPlace:
    """The objects of a bucket whose keys begin so.

    >>> str(BucketPlace(bucket="logs", prefix="envoy/2026/"))
    's3://logs/envoy/2026/'
    """

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def source_id(self) -> str:
        """What its source is called where nobody says."""
        return name_of(self.bucket)


Place = FilePlace | GroupPlace | BucketPlace


def parse_place(text: str) -> Place:
    """The place that a text names; a file whose name looks like another place is written ``./…``.

    Raises:
        LogFolderError: it is no name that a log group or a bucket can have.
    """
    if text.startswith(CLOUDWATCH):
        return _group(text)
    if text.startswith(S3):
        return _bucket(text)
    return FilePlace(pattern=text)


def by_source(places: Iterable[Place], source_id: str = "") -> dict[str, tuple[Place, ...]]:
    """The places by the source that they belong to: the one that was named, else each its own.

    >>> by_source([parse_place("a.log"), parse_place("s3://logs"), parse_place("b.log")]).keys()
    dict_keys(['others', 'logs'])
    """
    found: dict[str, tuple[Place, ...]] = {}
    for place in dict.fromkeys(places):
        name = source_id or place.source_id
        found[name] = (*found.get(name, ()), place)
    return found


def name_of(text: str) -> str:
    """A source's name made of another: what cannot be in it is a dash.

    >>> name_of("/ecs/ml/envoy#1")
    'ecs-ml-envoy-1'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return plain[:_LONGEST_NAME] or OTHERS


def place_digest(*parts: str) -> str:
    """A short name for what these parts say together; the same each time.

    >>> len(place_digest("eu-west-1", "/ml/envoy", ""))
    12
    """
    return blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()


def _group(text: str) -> GroupPlace:
    group, _, prefix = text.removeprefix(CLOUDWATCH).partition(":")
    if not _GROUP.fullmatch(group) or ":" in prefix or "*" in prefix:
        raise LogFolderError(
            f"{text} names no log group",
            advice="write cloudwatch:GROUP, or cloudwatch:GROUP:BEGIN-OF-STREAM-NAMES, e.g. "
            "cloudwatch:/ecs/ml:envoy/",
        )
    return GroupPlace(group=group, stream_prefix=prefix)


def _bucket(text: str) -> BucketPlace:
    bucket, _, prefix = text.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise LogFolderError(
            f"{text} names no bucket", advice="write s3://BUCKET or s3://BUCKET/BEGIN-OF-KEYS"
        )
    return BucketPlace(bucket=bucket, prefix=prefix)
