"""The access log that Envoy writes, rendered from the one table of a call record.

A member, its wiring and one of the field tables go in; Envoy's file logger with a JSON format
comes out. All records of a sidecar go to one file, told apart by ``_record``.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Mesh, VirtualNode
from meshml_dbx.planes.envoy_terms import Body, Wiring, extension, literal
from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CONNECTION_FIELDS,
    FIELDS,
    RECORD_KEY,
    Field,
)

FLUSH = {"flush_access_log_on_new_request": True, "access_log_flush_interval": "1s"}
"""A line when a call begins and one each second while it lasts, so that a stuck call shows."""

_TABLES: dict[str, tuple[Field, ...]] = {
    "call": FIELDS,
    "attempt": ATTEMPT_FIELDS,
    "connection": CONNECTION_FIELDS,
}

_NO_TUNNEL = {"name": ":method", "string_match": {"exact": "CONNECT"}, "invert_match": True}
# A tunnel is one record; its only attempt would be the same again.
_FILTERS: dict[str, Body] = {"attempt": {"filter": {"header_filter": {"header": _NO_TUNNEL}}}}


def access_log(
    mesh: Mesh, member: str, wiring: Wiring, *, record: str, observer: str
) -> list[Body]:
    """The loggers that write one kind of record as ``observer``."""
    constants = _constants(mesh, member, wiring, observer)
    form = {RECORD_KEY: record}
    for field in _TABLES[record]:
        value = field.operator or constants.get(field.column)
        if value is not None:
            form[field.json_key()] = value
    logger = extension(
        "access_loggers.file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=wiring.access_log,
        log_format={"json_format": form},
    )
    return [logger | _FILTERS.get(record, {})]


def _constants(mesh: Mesh, member: str, wiring: Wiring, observer: str) -> dict[str, str | None]:
    """What is the same in every line; Envoy's formatter must not read it as its own."""
    is_node = isinstance(names.member(mesh, member), VirtualNode)
    values = {
        "observer": observer,
        "mesh": mesh.mesh.mesh_name,
        "sidecar_id": wiring.sidecar_id,
        "process_id": wiring.process_id,
        "client": None if is_node else member,
        "virtual_node": member if is_node else None,
        "environment": wiring.environment,
    }
    return {key: value if value is None else literal(value) for key, value in values.items()}
