"""Whose log lines are that others wrote: what a source of logs is called, and what its lines lack.

Goes in: what a user says of a source, once. Comes out: a value that lies beside the source's log
files as ``source.json``, so that each ingest reads them alike.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from meshml_dbx.errors import LogFormatError
from meshml_dbx.traffic.known_formats import KNOWN
from meshml_dbx.traffic.log_format import LogFormat, json_format, text_format

SOURCE_FILE = "source.json"
FOREIGN_SUFFIX = ".log"
"""Of files of lines that others wrote; our own end in ``.jsonl``."""
VERSION = 1

observer_ = Literal["egress", "ingress", "gateway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """A source of log lines: its name, and what is true of each line though none says it.

    ``formats`` are those that were seen in it, the newest first, by name; ``""`` stands for the
    text of one that this package knows. ``origins`` are where its lines came from, for whoever
    asks later: places as they are typed, and log groups that envelopes name.

    >>> LogSource(source_id="edge", formats={"envoy-default": ""}).log_formats[0].kind
    'text'
    """

    source_id: str
    formats: Mapping[str, str] = field(default_factory=dict)
    observer: observer_ | None = None
    mesh: str | None = None
    client: str | None = None
    virtual_node: str | None = None
    environment: str | None = None
    origins: tuple[str, ...] = ()

    @property
    def log_formats(self) -> tuple[LogFormat, ...]:
        """The formats of its lines.

        Raises:
            LogFormatError: a format is none that this version understands.
        """
        return tuple(_format_of(name, text) for name, text in self.formats.items())

    def with_format(self, log_format: LogFormat) -> "LogSource":
        """The source with this format as its newest."""
        known = any(log_format == it for it in KNOWN)
        first = {log_format.name: "" if known else log_format.source}
        rest = {name: text for name, text in self.formats.items() if name not in first}
        values = {**_fields(self), "formats": {**first, **rest}}
        return LogSource(**values)  # type: ignore[arg-type]  # its own fields

    def to_json(self) -> str:
        """The text that is kept beside the log files."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "LogSource":
        """The source that such a text tells of.

        Raises:
            LogFormatError: it is of a newer version, or none of ours.
        """
        try:
            told = json.loads(text)
            version = told.pop("version")
            if version > VERSION:
                raise LogFormatError(
                    f"{SOURCE_FILE} is of version {version}; this meshml knows {VERSION}",
                    advice="upgrade meshml_dbx here",
                )
            return cls(**{**told, "origins": tuple(told.get("origins", ()))})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LogFormatError(
                f"{SOURCE_FILE} cannot be read: {error}",
                advice="take its log files in again under another name",
            ) from error


def _fields(source: LogSource) -> dict[str, object]:
    return {name: getattr(source, name) for name in source.__dataclass_fields__}


def _format_of(name: str, text: str) -> LogFormat:
    if not text:
        return next(it for it in KNOWN if it.name == name)
    if text.lstrip().startswith("{"):
        return json_format(json.loads(text), name=name)
    return text_format(text, name=name)
