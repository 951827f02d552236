"""Objects of a bucket that somebody has logs written to, as closed files of lines, each once.

Goes in: a client of S3, a bucket with the begin of keys, where the state and the files lie. Comes
out: a file for each object that was not read before, and what could not be read. An object is whole
once it is listed, so none is waited for; one that was written anew is another object, whose lines
that are known already the lake leaves out. A file's name is made of what its object is (bucket,
key, ETag, size), so a kill at any moment leaves no object in two files.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.envelope import Unwrapped, unwrap
from meshml_dbx.lake.gunzip import file_chunks
from meshml_dbx.lake.places import BucketPlace
from meshml_dbx.lake.spool import finish, new_file, write_all
from meshml_dbx.lake.state_file import load_state, save_state
from meshml_dbx.lake.telling import Telling

AT_ONCE = 8
"""Objects that are fetched side by side: most of the time is waiting for each one's first byte."""
PER_ROUND = 64
TRIES = 3
"""Of an object whose connection breaks off within it, which the client does not try again."""

_BLOCK = 1 << 20
_KEY_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LogObject:
    """An object as it was listed.

    >>> LogObject(bucket="logs", key="a.gz", etag="x", size=1).name
    's3-e4f1b9cb0b21512b916af2b0.log'
    """

    bucket: str
    key: str
    etag: str
    size: int

    @property
    def digest(self) -> bytes:
        """What tells it from every other, and from itself with other content."""
        parts = (self.bucket, self.key, self.etag, str(self.size))
        return blake2b("\0".join(parts).encode(), digest_size=12).digest()

    @property
    def name(self) -> str:
        """Of the file that holds its lines."""
        return f"s3-{self.digest.hex()}.log"

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What came of a bucket: files, the log groups that envelopes told of, what was not read."""

    files: tuple[Path, ...] = ()
    groups: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    listed: int = 0


def follow_bucket(
    client: Any,
    place: BucketPlace,
    *,
    state_file: Path,
    closed: Path,
    since_s: float | None,
    say: Callable[[str], None],
) -> Brought:
    """The files that now hold what is new in the bucket; hold the source's lock meanwhile.

    ``since_s``, seconds since 1970: objects that were last written before it are left out.

    Raises:
        LakeError: the bucket does not exist, access is denied, credentials are missing, requests
            were throttled for too long, or the state is not whole.
        LogFolderError: the folder cannot be written to.
    """
    known = _Known(state_file)
    taking = _Taking(client=client, place=place, closed=closed)
    telling = Telling(say)
    listed = _counted(_list(client, place, since_s), taking)
    fresh = (one for one in listed if one not in known)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            batch = list(islice(fresh, PER_ROUND))
            for one, path in zip(batch, pool.map(taking.take, batch), strict=True):
                if path is not None:
                    known.add(one)
                telling.tell(f"{place}: {taking.listed:,} objects listed, {len(known):,} read")
            known.save()
            if len(batch) < PER_ROUND:
                return taking.brought()


# --- what was read before -------------------------------------------------------------------------


class _Known:
    """The objects that were read: only digests of them, since a bucket may have a million."""

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file
        packed = base64.b64decode(load_state(state_file).get("objects", ""))
        steps = range(0, len(packed), _KEY_BYTES)
        self._keys = {packed[at : at + _KEY_BYTES] for at in steps}
        self._saved = len(self._keys)

    def __contains__(self, one: LogObject) -> bool:
        return one.digest[:_KEY_BYTES] in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, one: LogObject) -> None:
        self._keys.add(one.digest[:_KEY_BYTES])

    def save(self) -> None:
        if len(self._keys) != self._saved:
            packed = base64.b64encode(b"".join(sorted(self._keys))).decode()
            save_state(self._state_file, {"objects": packed})
            self._saved = len(self._keys)


# --- objects --------------------------------------------------------------------------------------


def _list(client: Any, place: BucketPlace, since_s: float | None) -> Iterator[LogObject]:
    """All objects that may hold a line, page by page."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=place.bucket, Prefix=place.prefix
    )
    with _explained(client, str(place), "s3:ListBucket"):
        for page in pages:
            for one in page.get("Contents", ()):
                is_old = since_s is not None and one["LastModified"].timestamp() < since_s
                if one["Size"] and not one["Key"].endswith("/") and not is_old:
                    yield LogObject(
                        bucket=place.bucket, key=one["Key"], etag=one["ETag"], size=one["Size"]
                    )


def _counted(objects: Iterable[LogObject], taking: "_Taking") -> Iterator[LogObject]:
    for one in objects:
        taking.listed += 1
        yield one


@dataclass(slots=True, kw_only=True)
class _Taking:
    """Takes objects, side by side; what was seen of them is gathered."""

    client: Any
    place: BucketPlace
    closed: Path
    listed: int = 0
    files: list[Path] = field(default_factory=list)
    groups: dict[str, None] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def brought(self) -> Brought:
        return Brought(
            files=tuple(sorted(self.files)),
            groups=tuple(self.groups),
            notices=tuple(sorted(self.notices)),
            listed=self.listed,
        )

    def take(self, one: LogObject) -> Path | None:
        """The file that holds the object's lines, made once; None where it cannot be read now."""
        target = self.closed / one.name
        if not target.is_file():
            seen = Unwrapped()
            gone = self._fetch(one, target, seen)
            self.notices += [f"{one}: {it}" for it in (*seen.notices, *([gone] if gone else ()))]
            self.groups.update(dict.fromkeys(seen.groups))
            if gone:
                return None
        self.files.append(target)
        return target

    def _fetch(self, one: LogObject, target: Path, seen: Unwrapped) -> str:
        """Why the object is not there as it was listed, or nothing."""
        with new_file(target) as raw:
            with _explained(self.client, str(one), "s3:GetObject"):
                if gone := self._download(one, raw):
                    return gone
            with Path(raw.name).open("rb") as copy, new_file(target) as lines:
                for block in unwrap(copy, seen):
                    write_all(lines, block)
                finish(lines, target)
        return ""

    def _download(self, one: LogObject, raw: Any) -> str:
        from botocore.exceptions import (  # type: ignore[import-untyped]  # ships without types
            ClientError,
            HTTPClientError,
            IncompleteReadError,
        )

        for left in reversed(range(TRIES)):
            raw.seek(0)
            raw.truncate()
            try:
                answer = self.client.get_object(Bucket=one.bucket, Key=one.key, IfMatch=one.etag)
                for block in file_chunks(answer["Body"], _BLOCK):
                    write_all(raw, block)
            except ClientError as error:
                code = str(error.response["Error"].get("Code", ""))
                if code in _GONE:
                    return _GONE[code]
                raise
            except (HTTPClientError, IncompleteReadError):
                if not left:
                    raise
            else:
                return ""
        return ""


_GONE = {
    "NoSuchKey": "it was deleted after it was listed; not read",
    "404": "it was deleted after it was listed; not read",
    "PreconditionFailed": "it was written anew after it was listed; the next ingest reads it",
    "412": "it was written anew after it was listed; the next ingest reads it",
    "InvalidObjectState": "it is archived; restore it, then ingest again",
}


# --- errors ---------------------------------------------------------------------------------------


@contextmanager
def _explained(client: Any, what: str, action: str) -> Iterator[None]:
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
    )

    try:
        yield
    except ClientError as error:
        raise explain(error.response["Error"], client, what, action) from error
    except BotoCoreError as error:
        details = {"Code": type(error).__name__, "Message": str(error)}
        raise explain(details, client, what, action) from error


def explain(error: Mapping[str, Any], client: Any, what: str, action: str) -> LakeError:
    """An error of AWS in words: which bucket or object, and what to do."""
    code = str(error.get("Code", ""))
    told, advice = _TOLD.get(code, (f"{code}: {error.get('Message', '')}".strip(": "), _OTHER))
    return LakeError(
        f"cannot read {what}: {told}",
        advice=advice.format(what=what, action=action, region=client.meta.region_name),
    )


_OTHER = "run: aws s3 ls {what}"
_ABSENT = ("there is no such bucket", "list them: aws s3 ls")
_DENIED = ("access is denied", "allow {action} on it to the role that reads it")
_EXPIRED = ("the credentials have expired", "sign in again, or let the job use a role")
_INVALID = ("the credentials are not valid", "check which are used: aws sts get-caller-identity")
_MISSING = (
    "there are no credentials",
    "name a profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or let the job use a role",
)
_ELSEWHERE = ("the bucket is in another region", "name it with --region; asked was {region}")
_THROTTLED = ("S3 throttles requests, and went on to", "run it again: what was read stays read")
_UNREACHABLE = ("its endpoint cannot be reached", "check region ({region}), proxy and network")
_CUT_OFF = ("the connection broke off", "run it again: what was read stays read")
_TOLD = {
    "NoSuchBucket": _ABSENT,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _INVALID,
    "InvalidToken": _INVALID,
    "SignatureDoesNotMatch": _INVALID,
    "NoCredentialsError": _MISSING,
    "PartialCredentialsError": _MISSING,
    "CredentialRetrievalError": _MISSING,
    "TokenRetrievalError": _EXPIRED,
    "SSOTokenLoadError": _EXPIRED,
    "UnauthorizedSSOTokenError": _EXPIRED,
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "SlowDown": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
    "ReadTimeoutError": _UNREACHABLE,
    "ConnectionClosedError": _CUT_OFF,
    "IncompleteReadError": _CUT_OFF,
    "ResponseStreamingError": _CUT_OFF,
}
