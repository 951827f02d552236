"""Closing the live log of a running Envoy: renamed, let go by Envoy, then moved into ``closed/``.

In goes the log folder of one sidecar, with its Envoy's admin interface or without; out come the
files that were closed. A few milliseconds after ``/reopen_logs`` Envoy lets go of the old file,
makes a new one under the log's name and puts what it had buffered into that, so the old file is
finished as soon as the new one exists.
"""

import time
from contextlib import suppress
from datetime import datetime

from meshml_dbx.errors import EnvoyError
from meshml_dbx.logs.files import ClosedFile, late_files, move_closed, rename_live
from meshml_dbx.sidecar.admin import Admin
from meshml_dbx.traffic.log_folder import ACCESS_FILE, SidecarLogs

_REOPEN_TIMEOUT_S = 5.0
_POLL_S = 0.005
_PENDING = "filesystem.write_total_buffered"
_PENDING_ONLY = r"^filesystem\.write_total_buffered$"


def close_files(
    logs: SidecarLogs, *, now: datetime, admin: Admin | None = None
) -> tuple[ClosedFile, ...]:
    """Close what is live and not empty; with no Envoy, nothing has to let go.

    A file that Envoy does not let go of in time stays in ``live/`` and is closed at the next
    call. Half a line at the end, left by a process that was killed, is kept as it is.
    """
    late = late_files(logs)
    renamed = rename_live(logs)
    held = [*late, *(path for path, origin in renamed.items() if origin == ACCESS_FILE)]
    if admin is not None and held and not _has_let_go(logs, admin):
        renamed = {path: origin for path, origin in renamed.items() if origin != ACCESS_FILE}
    else:
        renamed = dict.fromkeys(late, ACCESS_FILE) | renamed
    return tuple(move_closed(logs, path, origin, now) for path, origin in renamed.items())


def await_flush(admin: Admin, *, flush_s: float) -> None:
    """Return when every line that Envoy has made by now is in its file, not in its buffer.

    Under load the buffer is never empty, but what is in it now is written within one interval.
    """
    deadline = time.monotonic() + 1.5 * flush_s
    with suppress(EnvoyError):
        while admin.stats(_PENDING_ONLY).get(_PENDING) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def _has_let_go(logs: SidecarLogs, admin: Admin) -> bool:
    deadline = time.monotonic() + _REOPEN_TIMEOUT_S
    try:
        admin.reopen_logs()
        while time.monotonic() < deadline:
            if logs.access.exists():
                return True
            time.sleep(_POLL_S)
    except EnvoyError:
        return False
    return False
