"""What convinced the diagnosis of each cause, in words and figures, and the mesh file's line.

Goes in: a case and a suspect. Comes out: the half sentence after the cause's name, the place in
the mesh file that speaks of it, and what is worth saying of a single call.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from meshml_dbx.diagnosis.baseline import MIN_SIBLING_CALLS
from meshml_dbx.diagnosis.breakdown import PARTS
from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.causes import SLOW_RATIO, largest_part
from meshml_dbx.diagnosis.client_words import (
    layered_storm,
    missing_connections,
    own_time_out,
    refused_by,
    self_seen,
)
from meshml_dbx.diagnosis.ends import commonest, kind_of, kinds, listed
from meshml_dbx.diagnosis.identity import plain_reason
from meshml_dbx.diagnosis.policies import Limit
from meshml_dbx.diagnosis.rank import NONE, Suspect
from meshml_dbx.diagnosis.table import Ints
from meshml_dbx.diagnosis.units import counted, milliseconds, percent, seconds
from meshml_dbx.traffic.access_log import UNFINISHED_TYPE, WAITING_OBSERVERS

_NO_WAY = {
    "meshml:drop-all": "{} is none of the client's backends, and the mesh drops other hosts",
    "meshml:no-provider": "virtual service {} has no provider",
}
"""What the names of the proxy's own routes say."""


def explain(case: Case, suspect: Suspect) -> str:
    """What the calls of a suspect show, as half a sentence."""
    return _EXPLAIN[suspect.cause](case, suspect)


def mesh_line(case: Case, suspect: Suspect) -> str | None:
    """Source, line and path of what the mesh file says about a suspect; None if it says nothing."""
    version, place = case.version(suspect.rows), suspect.place
    match suspect.cause:
        case "policy_timeout" | "retry_storm" if self_seen(case, suspect):
            return None  # no proxy carried the calls: the limit and the tries are the program's
        case "policy_timeout":
            return time_limit(case, suspect).where
        case "retry_storm":
            return case.declared.retry_policy(version, place)
        case "refused_identity":
            return case.declared.accepted_names(version, place.target)
        case "no_route" if not place.in_mesh:
            return case.declared.egress_filter(version)
        case _:
            return case.declared.target(version, place)


def time_limit(case: Case, suspect: Suspect) -> Limit:
    """The time limit that ended most of a suspect's calls."""
    rows, version = suspect.rows, case.version(suspect.rows)
    if case.marks.cut_by_listener[rows].mean() > 1 / 2:
        return case.declared.listener_limit(version, suspect.place)
    details = commonest(case, "details", rows)
    flags = commonest(case, "flags", rows)
    if "per_try" in details:
        return case.declared.route_limit(version, suspect.place, "perRetryTimeout")
    name = "idle" if "SI" in flags.split(",") else "perRequest"
    return case.declared.route_limit(version, suspect.place, name)


def call_detail(case: Case, suspect: Suspect, row: int) -> str:
    """What is worth saying of one call."""
    attempt = int(case.table.numbers["attempt"][row])
    later = f"try {attempt}: " if case.table.by_client[row] and attempt > 1 else ""
    return later + _call_detail(case, suspect, row)


def _call_detail(case: Case, suspect: Suspect, row: int) -> str:
    if row in case.refusals.reasons:
        return plain_reason(case.refusals.reasons[row])
    failure = case.table.text("upstream_failure", row)
    if failure:
        return plain_reason(failure)
    if suspect.cause == "stuck_call":
        return _ending(case, row)
    name, share = largest_part(case, np.array([row], dtype=np.int64))
    return f"{PARTS[name]} {percent(share)}"


def _slow(case: Case, suspect: Suspect) -> str:
    name, share = largest_part(case, suspect.rows)
    said = f"{PARTS[name]} is {percent(share)} of each call"
    sibling = _healthy_sibling(case, suspect)
    if sibling:
        return f"{said}; {sibling} on the same route is healthy"
    if suspect.reference is None:
        share = suspect.wait_us / max(case.duration_us, 1)
        return f"{said}; nothing to compare with, but it alone took {percent(share)} of the run"
    return said


def _storm(case: Case, suspect: Suspect) -> str:
    if case.marks.tried_again[suspect.rows].any():
        return layered_storm(case, suspect)
    retries = int(case.table.retries[suspect.rows].sum())
    share = case.parts["earlier_attempts"][suspect.rows].sum() / max(
        int(case.table.duration[suspect.rows].sum()), 1
    )
    failed = int(case.marks.failed[suspect.rows].sum())
    said = (
        f"{retries / max(suspect.of_calls, 1):.1f} retries per call; "
        f"earlier attempts and back-off are {percent(float(share))} of the retried calls"
    )
    ends = _attempt_ends(case, suspect)
    said += f"; attempts ended {ends}" if ends else ""
    return said + (f"; {counted(failed, 'call')} failed all the same" if failed else "")


def _stuck(case: Case, suspect: Suspect) -> str:
    rows = suspect.rows
    longest = int(rows[np.argmax(case.table.duration[rows])])
    others = np.setdiff1d(
        np.concatenate([case.groups.rows[group] for group in suspect.groups]), rows
    )
    took = seconds(int(case.table.duration[longest]))
    usual = _usual(case, suspect, others)
    lasts = case.table.open[longest] and case.table.text("type", longest) != UNFINISHED_TYPE
    hung = "has hung for" if lasts else "hung for"
    said = f"{len(rows)} of {counted(suspect.of_calls, 'call')} {hung} {took}{usual}"
    return f"{said}; {_ending(case, longest)}"


def _refused(case: Case, suspect: Suspect) -> str:
    rows, target = suspect.rows, suspect.place.target or suspect.place.service
    client = commonest(case, "client", rows) or "the caller"
    reasons = [case.refusals.reasons[row] for row in rows.tolist() if row in case.refusals.reasons]
    failed = f"{len(rows)} of {counted(suspect.of_calls, 'call')} refused"
    if self_seen(case, suspect):
        return f"{refused_by(case, rows, client, target)}; {failed}"
    if case.refusals.by_client[rows].sum() > case.refusals.by_server[rows].sum():
        told = plain_reason(commonest(case, "upstream_failure", rows))
        return f"{client} does not accept the certificate of {target}: {told}; {failed}"
    told = plain_reason(Counter(reasons).most_common(1)[0][0]) if reasons else "no reason logged"
    proof = f"{len(reasons)} of them found in the log of {target}"
    said = f"{target} does not accept the certificate of {client}: {told}; {failed}, {proof}"
    if case.declared.lists(case.version(rows), suspect.place.target, client):
        return f"{said}; the caller's mesh file lists it, so {target} runs with another"
    return said


def _unconnected(case: Case, suspect: Suspect) -> str:
    failed = f"{len(suspect.rows)} of {counted(suspect.of_calls, 'call')} found no connection"
    if self_seen(case, suspect):
        return f"{failed}: {missing_connections(case, suspect.rows)}"
    reason = commonest(case, "upstream_failure", suspect.rows) or commonest(
        case, "details", suspect.rows
    )
    flags = kinds(case, suspect.rows)
    return f"{failed}: {flags}" + (f"; {plain_reason(reason)}" if reason else "")


def _timed_out(case: Case, suspect: Suspect) -> str:
    if self_seen(case, suspect):
        return own_time_out(case, suspect)
    limit = time_limit(case, suspect)
    place = f" ({limit.where})" if limit.where else ""
    cut = f"{len(suspect.rows)} of {counted(suspect.of_calls, 'call')} cut off by {limit}"
    return f"{cut}{place}"


def _unrouted(case: Case, suspect: Suspect) -> str:
    answered = f"{counted(len(suspect.rows), 'call')} answered {kinds(case, suspect.rows)}"
    service = suspect.place.service
    missing = f"the mesh has no route for {service} and this path"
    return f"{answered}: {_NO_WAY.get(suspect.place.route or '', missing).format(service)}"


def _failing(case: Case, suspect: Suspect) -> str:
    failed = f"{len(suspect.rows)} of {counted(suspect.of_calls, 'call')} failed"
    paused = f"; up to {seconds(suspect.pause_us)} of pauses before the program tried again"
    return f"{failed}: {kinds(case, suspect.rows)}" + (paused if suspect.pause_us else "")


def _healthy(case: Case, suspect: Suspect) -> str:
    reference = suspect.reference
    name, share = largest_part(case, suspect.rows)
    if reference is None:
        return f"nothing to compare with; {PARTS[name]} is {percent(share)} of each call"
    return f"as in {reference.name}" if reference.kind == "baseline" else f"as {reference.name}"


_EXPLAIN: dict[str, Callable[[Case, Suspect], str]] = {
    "slow_upstream": _slow,
    "slow_connection": _slow,
    "retry_storm": _storm,
    "stuck_call": _stuck,
    "refused_identity": _refused,
    "connect_failure": _unconnected,
    "policy_timeout": _timed_out,
    "no_route": _unrouted,
    "upstream_error": _failing,
    NONE: _healthy,
}


def _healthy_sibling(case: Case, suspect: Suspect) -> str | None:
    """Another target of the same route whose calls to the same pattern are not slow."""
    place, own = suspect.place, case.own[suspect.place]
    for other, profile in case.own.items():
        same = (other.service, other.route, other.pattern) == (
            place.service,
            place.route,
            place.pattern,
        )
        if (
            same
            and other.target != place.target
            and profile.answered >= MIN_SIBLING_CALLS
            and profile.p50_us * SLOW_RATIO <= own.p50_us
        ):
            return other.target
    return None


def _usual(case: Case, suspect: Suspect, others: Ints) -> str:
    if len(others):
        return f" (the others {milliseconds(float(np.median(case.table.duration[others])) / 1000)})"
    if suspect.reference is None or not suspect.reference.profile.answered:
        return ""
    usual = milliseconds(suspect.reference.profile.p50_us / 1000)
    return f" ({suspect.reference.name}: {usual})"


def _ending(case: Case, row: int) -> str:
    flags = case.table.text("flags", row) or "-"
    by_client = case.table.by_client[row]
    if case.table.text("type", row) == UNFINISHED_TYPE:
        return f"its {'process' if by_client else 'proxy'} died before it ended"
    if case.table.open[row]:
        return "it is still in flight"
    if case.marks.timed_out[row]:
        limit = "the program's own time-out" if by_client else "a time limit"
        return f"{limit} ended it ({flags})"
    if {"DC", "DR"} & set(flags.split(",")):
        return f"the program gave up ({flags})"
    code = int(case.table.numbers["code"][row])
    return f"it failed ({code} {flags})" if case.marks.failed[row] else f"it was answered ({code})"


def _attempt_ends(case: Case, suspect: Suspect) -> str:
    ids = {case.table.request_ids[row] for row in suspect.rows.tolist()}
    ends: Counter[str] = Counter()
    for one in case.evidence.attempts:
        if one.observer in WAITING_OBSERVERS and one.request_id in ids:
            ends[kind_of(one.code, one.flags)] += 1
    return listed(ends)
