"""A followed call as rows of text: what it led to stands below it, moved to the right.

Goes in: a ``Trail``. Comes out: headings and rows. Pure.
"""

from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.trail import Step, Trail

TRAIL_HEADINGS = ("call", "took", "itself", "code", "linked by")
HOW_TEXTS = {
    "request": "request id",
    "trace": "trace id, nested in time",
    "inferred": "nested in time (inferred)",
    "ambiguous": "several fit",
    None: "",
}
"""How two calls are known to be one path, in words."""


def trail_rows(trail: Trail) -> tuple[tuple[str, ...], ...]:
    """A row for each step of a trail."""
    return tuple(_row(step) for step in trail.steps)


def trail_notes(trail: Trail) -> tuple[str, ...]:
    """What the rows do not show."""
    notes = []
    if len(trail.steps) == 1:
        notes.append("no service that was called has told of this call: it has no sidecar here")
    if trail.ambiguous:
        notes.append(f"{trail.ambiguous} calls that services made meanwhile fit several callers")
    if trail.left_out:
        notes.append(f"{trail.left_out} more calls are on this path")
    return tuple(notes)


def _row(step: Step) -> tuple[str, ...]:
    call = step.hop.call
    return (
        f"{'  ' * step.depth}{_what(call)}",
        f"{call.duration_us / 1000:.1f} ms",
        f"{step.hop.self_us / 1000:.1f} ms",
        "-" if call.code is None else str(call.code),
        HOW_TEXTS[step.hop.how],
    )


def _what(call: Call) -> str:
    """Who called whom, or who was called."""
    member = call.client or call.virtual_node or call.sidecar_id
    if call.observer == "ingress":
        return f"at {member}"
    called = call.virtual_service or call.authority or "unknown"
    where = f"{called} ({call.target})" if call.target else called
    return f"{member} → {where} {call.pattern or ''}".rstrip()
