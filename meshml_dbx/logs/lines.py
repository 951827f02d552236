"""The lines that a supervisor or a recorder writes of itself, beside those of calls."""

import json
from collections.abc import Mapping

from meshml_dbx.traffic.access_log import RECORD_KEY, TYPE_KEY, time_text


def record_line(record: str, kind: str, *, seconds: float, values: Mapping[str, object]) -> bytes:
    """One line of ours: its record and type first, then the time, then its fields.

    >>> record_line("program", "end", seconds=0.5, values={"exit_code": 0})
    b'{"_record":"program","_type":"end","time":"1970-01-01T00:00:00.500000Z","exit_code":0}\\n'
    """
    stamp = time_text(round(seconds * 1_000_000))
    line = {RECORD_KEY: record, TYPE_KEY: kind, "time": stamp, **values}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
