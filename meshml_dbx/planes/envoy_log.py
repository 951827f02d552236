"""The access logs that Envoy writes: ours, rendered from the one table of a call record, and the
one that the mesh file declares.

A member, its wiring and one of the field tables go in; Envoy's file loggers come out. All our
records of a sidecar go to one file, told apart by ``_record``.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import FileAccessLog, Mesh, MeshClient
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
_ENDS = ["DownstreamEnd", "TcpConnectionEnd"]


def access_log(
    mesh: Mesh,
    member: str,
    wiring: Wiring,
    *,
    record: str,
    observer: str,
    service: str | None = None,
) -> list[Body]:
    """The loggers that write one kind of record as ``observer``."""
    constants = _constants(mesh, member, wiring, observer)
    if service and record == "connection":
        constants["virtual_service"] = literal(service)
    form = {RECORD_KEY: record}
    for field in _TABLES[record]:
        value = field.operator or constants.get(field.column)
        if value is not None:
            form[field.json_key()] = value
    logger = _file_logger(wiring.access_log, {"json_format": form})
    return [logger | _FILTERS.get(record, {})]


def declared_log(mesh: Mesh, member: str, wiring: Wiring) -> list[Body]:
    """The access log that the mesh file asks for, one line for each call or connection."""
    file = declared_log_file(mesh, member)
    if file is None:
        return []
    logger = _file_logger(wiring.declared_log or file.path, _declared_format(file))
    return [logger | {"filter": {"log_type_filter": {"types": _ENDS}}}]


def declared_log_file(mesh: Mesh, member: str) -> FileAccessLog | None:
    """What the mesh file says of a node's or gateway's own access log."""
    found = names.member(mesh, member)
    logging = None if isinstance(found, MeshClient) else found.spec.logging
    return logging.access_log.file if logging and logging.access_log else None


def _declared_format(file: FileAccessLog) -> Body | None:
    """Without a format it is Envoy's own, as it was App Mesh's."""
    if file.format is None:
        return None
    if file.format.text is not None:
        return {"text_format_source": {"inline_string": file.format.text}}
    return {"json_format": {field.key: field.value for field in file.format.json or ()}}


def _file_logger(path: str, log_format: Body | None) -> Body:
    fields: Body = (
        {"path": path} if log_format is None else {"path": path, "log_format": log_format}
    )
    return extension(
        "access_loggers.file", "extensions.access_loggers.file.v3.FileAccessLog", **fields
    )


def _constants(mesh: Mesh, member: str, wiring: Wiring, observer: str) -> dict[str, str | None]:
    """What is the same in every line; Envoy's formatter must not read it as its own."""
    is_client = isinstance(names.member(mesh, member), MeshClient)
    values = {
        "observer": observer,
        "mesh": mesh.mesh.mesh_name,
        "sidecar_id": wiring.sidecar_id,
        "process_id": wiring.process_id,
        "client": member if is_client else None,
        "virtual_node": None if is_client else member,
        "environment": wiring.environment,
    }
    written = {key: value if value is None else literal(value) for key, value in values.items()}
    return written | {key: f"%ENVIRONMENT({it})%" for key, it in wiring.from_environment.items()}
