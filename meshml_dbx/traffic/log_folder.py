"""The names in the state and log folders: fixed, because other programs read them too.

Goes in: a root. Comes out: paths. Nothing here touches the disk.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

LIVE, CLOSED = "live", "closed"
ACCESS_FILE = "access.jsonl"
EVENTS_FILE = "events.jsonl"
STAGES_PREFIX = "stages-"
CLOSING_PREFIX = "closing-"
LIVE_LOCK = ".lock"
CLOSE_REQUEST = "close.request"
CHANGE_REQUEST = "change.request"
CHANGE_ANSWER = "change.answer"
SIDECAR_LOCK = "lock"
SIDECAR_FACTS = "sidecar.json"
ADMIN_SOCKET = "admin.sock"

CLOSED_NAME = re.compile(r"^(?P<time>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?P<number>[0-9]+)\.jsonl\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFolder:
    """Where everything of one project lies, ``./.meshml`` unless told otherwise.

    >>> StateFolder(root=Path(".meshml")).logs.as_posix()
    '.meshml/logs'
    """

    root: Path

    @property
    def trust(self) -> Path:
        """The local authority and the identities."""
        return self.root / "trust"

    @property
    def run(self) -> Path:
        """One folder per living sidecar."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One folder per sidecar that ever wrote."""
        return self.root / "logs"

    @property
    def lake(self) -> Path:
        """The Delta tables."""
        return self.root / "lake"

    @property
    def checkpoints(self) -> Path:
        """What ingest has read."""
        return self.root / "checkpoints"

    @property
    def reports(self) -> Path:
        """Pages that ``why`` wrote."""
        return self.root / "reports"


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarLogs:
    """The log folder of one sidecar."""

    root: Path
    sidecar_id: str

    @property
    def folder(self) -> Path:
        """Everything that this sidecar and its program wrote."""
        return self.root / self.sidecar_id

    @property
    def live(self) -> Path:
        """What is being written now."""
        return self.folder / LIVE

    @property
    def closed(self) -> Path:
        """Finished files: a name, once given, never changes, and the file never grows."""
        return self.folder / CLOSED

    @property
    def access(self) -> Path:
        """Where Envoy writes."""
        return self.live / ACCESS_FILE

    @property
    def events(self) -> Path:
        """Where the supervisor writes."""
        return self.live / EVENTS_FILE

    def stages(self, pid: int) -> Path:
        """Where a program's process writes its stages."""
        return self.live / f"{STAGES_PREFIX}{pid}.jsonl"


def closed_name(now: datetime, number: int) -> str:
    """The name of a finished file.

    >>> closed_name(datetime(2026, 11, 23, 14, 22, 33, 123456, tzinfo=UTC), 4)
    '20261123T142233.123456Z-4.jsonl'
    """
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{number}.jsonl"
