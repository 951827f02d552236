"""The answer as plain text, the evidence as rows of text, and what each cause means.

Goes in: a diagnosis. Comes out: lines and tuples; colour and tables are the command line's.
"""

from shlex import quote
from typing import TYPE_CHECKING

from meshml_dbx.diagnosis import baseline, case, causes, habits, rank, repeats
from meshml_dbx.diagnosis.units import counted, milliseconds, percent, seconds, short_id
from meshml_dbx.diagnosis.verdict import NO_PROXYS_VIEW, WORTH_SAYING_SHARE, waited_on
from meshml_dbx.traffic.access_log import time_text
from meshml_dbx.traffic.evidence import COUNTED_BY_PROGRAM, NOTHING_RECORDED

if TYPE_CHECKING:
    from meshml_dbx.diagnosis.diagnosis import Culprit, Diagnosis, EvidenceRow
    from meshml_dbx.traffic.evidence import Ledger

RECORD_COMMAND = (
    "meshml record -- python PROGRAM   (in a notebook: meshml_dbx.record(); "
    "with a mesh: meshml run --mesh mesh.yml --client NAME -- python PROGRAM)"
)
"""What records the next run, where nothing of this one was."""

EVIDENCE_HEADINGS = (
    "#",
    "start (UTC)",
    "request id",
    "target",
    "code",
    "flags",
    "attempts",
    "duration",
    "first byte",
    "detail",
)

_TARGET_WIDTH = 44
_MOST_LETTERS = 200
"""How much of a name is shown; whoever calls chooses how long a path or a header is."""
_MOST_LINE = 2_000


def answer_text(diagnosis: "Diagnosis", *, report: str = "", next_command: str = "") -> str:
    """The answer in a few lines: the run, who is to blame and why, the ledger, what to do next."""
    lines = [_run_line(diagnosis)]
    if not diagnosis.blamed:
        lines.append(f"  {diagnosis.sentence}")
    for culprit in diagnosis.culprits:
        lines += _culprit_lines(culprit)
    witness = "process" if diagnosis.seen_by_client else "proxy"
    lines += [
        f"  in flight{f' until its {witness} died' if one.is_cut_off else ''}: "
        f"{_cut(one.pattern or 'a call')} to {_cut(one.target or one.virtual_service or '?')}, "
        f"{seconds(one.age_s * 1e6)}{f', stage {_cut(one.stage)}' if one.stage else ''}"
        for one in diagnosis.in_flight
    ]
    lines += [
        f"  could save {seconds(one.saves_s * 1e6)}: {one.sentence}" for one in diagnosis.habits
    ]
    lines += [f"  not seen: {one}" for one in _not_seen(diagnosis)]
    counted_as = "recorded" if diagnosis.seen_by_client else "proxied"
    lines.append(ledger_text(diagnosis.ledger, counted_as=counted_as))
    command = next_step(diagnosis, next_command)
    lines.append(f"report: {report}      next: {command}" if report else f"next: {command}")
    return "\n".join(printable(line) for line in lines)


def next_step(diagnosis: "Diagnosis", evidence_command: str = "") -> str:
    """The command that leads on: to the evidence, or to a recording where there is none."""
    known = diagnosis.evidence
    if not (len(known.calls) or known.in_flight or known.tunnels):
        return RECORD_COMMAND
    return evidence_command or f"meshml why {quote(short_id(diagnosis.run_id))} --evidence"


def _not_seen(diagnosis: "Diagnosis") -> list[str]:
    """What is said of gaps: all where they leave no verdict, else calls that went another way.

    That nothing was recorded is the sentence of such a run, so it is not said again. What only a
    proxy sees is said where it may be what is missing.
    """
    listed = [one for one in diagnosis.coverage.not_seen if one != NOTHING_RECORDED]
    if diagnosis.verdict == "unknown":
        return listed
    unexplained = diagnosis.coverage.unexplained_s >= WORTH_SAYING_SHARE * diagnosis.duration_s
    is_missed = unexplained or diagnosis.verdict == "program"
    return [
        one for one in listed if COUNTED_BY_PROGRAM in one or (is_missed and one == NO_PROXYS_VIEW)
    ]


def evidence_rows(diagnosis: "Diagnosis") -> tuple[tuple[str, ...], ...]:
    """The worst calls of the culprits as rows of text, under ``EVIDENCE_HEADINGS``."""
    rows = map(_row, diagnosis.evidence_rows)
    return tuple(tuple(printable(_cut(cell)) for cell in row) for row in rows)


def _row(row: "EvidenceRow") -> tuple[str, ...]:
    return (
        str(row.rank),
        time_text(row.start_time)[11:-4],
        row.request_id or "-",
        row.target or "-",
        "-" if row.code is None else str(row.code),
        row.flags or "-",
        "-" if row.attempts is None else str(row.attempts),
        milliseconds(row.duration_ms),
        milliseconds(row.first_byte_ms),
        row.detail,
    )


def printable(text: str) -> str:
    """The text without control characters: a name must not steer the terminal that shows it.

    >>> printable("run \x1b[31mred")
    'run ?[31mred'
    """
    shown = _cut(text, _MOST_LINE)
    # Most lines are, and asking once is a hundred times as fast as letter by letter.
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else "?" for one in shown)


def _cut(text: str, most: int = _MOST_LETTERS) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def ledger_text(ledger: "Ledger", *, counted_as: str = "proxied") -> str:
    """The ledger in one line; ``counted_as`` says who counted the calls beside the rows.

    >>> from meshml_dbx.traffic.evidence import Ledger
    >>> ledger_text(Ledger(proxied=404, rows=404))
    'ledger: sent - · proxied 404 · rows 404 · quarantined 0 · lost 0'
    """
    counts = {
        "sent": ledger.sent,
        counted_as: ledger.proxied,
        "rows": ledger.rows,
        "quarantined": ledger.quarantined,
        "lost": ledger.lost,
    }
    told = " · ".join(f"{name} {'-' if n is None else n}" for name, n in counts.items())
    reasons = f" ({'; '.join(ledger.explained)})" if ledger.explained else ""
    return f"ledger: {told}{reasons}"


def _run_line(diagnosis: "Diagnosis") -> str:
    share = diagnosis.wait_us / max(diagnosis.duration_us, 1)
    on = waited_on(seen_by_client=diagnosis.seen_by_client)
    parts = [
        f"run {short_id(diagnosis.run_id)} {_cut(diagnosis.run_name)}".rstrip(),
        seconds(diagnosis.duration_us),
        f"waited {seconds(diagnosis.wait_us)} {on} ({percent(share)})",
    ]
    if diagnosis.status != "FINISHED":
        parts.insert(1, diagnosis.status)
    if diagnosis.baseline:
        parts.append(f"baseline: {diagnosis.baseline.replace(' (', ', ').removesuffix(')')}")
    return "   ".join(parts)


def _culprit_lines(culprit: "Culprit") -> list[str]:
    route = f" / {culprit.route}" if culprit.route else ""
    target = f" → {culprit.target}" if culprit.target else ""
    name = _cut(f"{culprit.virtual_service}{route}{target}")
    healthy = ""
    if culprit.baseline_p95_ms is not None:
        by = culprit.compared_with if culprit.blamed_on == "siblings" else "baseline"
        healthy = f" ({by} {milliseconds(culprit.baseline_p95_ms)})"
    figures = (
        f"{seconds(culprit.wait_s * 1e6)}   p95 {milliseconds(culprit.p95_ms)}{healthy}   "
        f"{counted(culprit.calls, 'call')}   {counted(culprit.retries, 'retry', 'retries')}"
    )
    cause = "healthy" if culprit.cause == rank.NONE else culprit.cause.replace("_", " ")
    return [
        f"  {culprit.rank}  {name:<{_TARGET_WIDTH}} {figures}",
        f"     cause: {cause}: {culprit.detail}",
    ]


_MATTERS = (
    f"It counts when it cost {percent(case.MATTERS_SHARE)} of the run and at least "
    f"{seconds(case.MATTERS_US)}."
)
_ERRORS = (
    f"It counts when {percent(rank.MIN_ERROR_SHARE)} of the calls to a target failed, at least "
    f"{rank.MIN_ERRORS}, and the baseline did not fail alike; when it ended a run that broke off; "
    f"or when it cost {percent(case.MATTERS_SHARE)} of the run, pauses before new tries included."
)

_WORTH = (
    f"It is said when it saves {percent(case.MATTERS_SHARE)} of the run and at least "
    f"{seconds(case.MATTERS_US)}."
)
_HEALTHY = (
    "Calls that a fault slowed down, and calls further from the next than "
    f"{habits.DENSE_RATIO:g} times their own length, are left out."
)

CAUSES: dict[str, str] = {
    "slow_upstream": (
        "The service took longer to answer than it does when healthy. Recognised when most of the "
        "calls' time is sending, first byte or transfer, and the median is "
        f"{causes.SLOW_RATIO:g} times the baseline's (or the slowest 5 % are "
        f"{causes.SLOW_TAIL_RATIO:g} times and the mean {causes.SLOW_RATIO:g} times), by at least "
        f"{milliseconds(causes.SLOW_EXCESS_US / 1000)} a call or "
        f"{percent(causes.SLOW_LARGE_SHARE)} of the run in all; what slows all others alike, "
        f"up to {case.MOST_COMMON_SLOWDOWN:g} times, is not blamed on one. Without a baseline, "
        f"targets of the same route with {baseline.MIN_SIBLING_CALLS} calls serve; without those, "
        f"one target must take {percent(causes.ABSOLUTE_SHARE)} of the run, "
        f"{percent(causes.ABSOLUTE_FIRST_BYTE_SHARE)} of it to the first byte, whose median is "
        f"{seconds(causes.ABSOLUTE_FIRST_BYTE_US)} or more. {_MATTERS} "
        "Do: look at that service's program and host; in a mesh, move the route's weight to a "
        "healthy target."
    ),
    "slow_connection": (
        "Getting a connection to the service took longer than when healthy: the pool was full, or "
        "connecting and the TLS handshake were slow. Recognised as slow_upstream is, where these "
        f"are most of the calls' time. {_MATTERS} "
        "Do: raise connectionPool.http.maxConnections; keep connections alive in the program."
    ),
    "retry_storm": (
        "The proxy, or a library of the program, tried calls again and again because attempts "
        "failed; the time went to earlier attempts and back-off. Recognised when there are "
        f"{causes.STORM_LEAST_RETRIES} retries and {causes.STORM_RATIO:g} times as many per call "
        f"as in the baseline; per-try time-outs count as retries. Where tries are calls "
        f"of their own, those that failed cost their wait and the pauses after them. {_ERRORS} "
        "Do: mend what fails (the attempts say with which code); lower maxRetries meanwhile."
    ),
    "stuck_call": (
        "Few calls hung while the others were answered, or one is still in flight. Recognised when "
        f"at most {percent(causes.STUCK_MOST_SHARE)} of the calls (or "
        f"{causes.STUCK_MOST_CALLS}) took {seconds(causes.STUCK_US)} and "
        f"{causes.STUCK_RATIO:g} times the usual median and {causes.STUCK_TAIL_RATIO:g} times the "
        f"usual 95th percentile, however they ended; with nothing to compare, in flight for "
        f"{seconds(causes.STUCK_ALONE_US)}. One in flight always counts; else: {_MATTERS} "
        "Do: set timeout.perRequest on the route, or a time-out in the program; look at that "
        "request in the service's log."
    ),
    "refused_identity": (
        "One side did not accept the other's certificate. If the called node refused, the caller "
        "saw only 503 UC: it is recognised by the node's listener line with the same address and "
        "time. If the caller refused, its own line has UF and the reason. A process that records "
        "itself has both in its own line: an alert is the other side's. One failed call is "
        f"enough, when {percent(rank.MIN_ERROR_SHARE)} of the calls failed. "
        "Do: add the caller to the node's subjectAlternativeNames, or renew the certificate."
    ),
    "connect_failure": (
        "No connection to the service could be had: refused, name not resolved, no healthy "
        f"endpoint, pool overflow (flags UF, DF, UH, UO, NC). {_ERRORS} "
        "Do: see that the service, or its sidecar, runs and listens where it is called."
    ),
    "policy_timeout": (
        "A time limit of the mesh ended the calls: perRequest, idle or perRetryTimeout of the "
        "route (flags UT, SI, DT), or perRequest of the called node's listener. The line of the "
        "mesh file is named. Where the process records itself, it is the program's own time-out. "
        f"{_ERRORS} "
        "Do: raise the limit if such calls may last, else look at why the service needs so long."
    ),
    "no_route": (
        "The caller's own proxy answered, since the mesh has no way for the host or path (404 NR, "
        "or a direct response): for instance a host outside it under egressFilter DROP_ALL. "
        f"{_ERRORS} "
        "Do: add a virtual service, a route, or the backend to the client."
    ),
    "upstream_error": (
        "The service answered 5xx, or broke the connection off, without the proxy trying again. "
        f"{_ERRORS} Do: look at the service's log for the request ids."
    ),
    "none": (
        "Nothing is wrong: the calls behave as in the baseline, as their siblings, or give no "
        "reason to blame. The time may still be theirs: make fewer calls, or several at once."
    ),
    "repeated_gets": (
        "The program asked again for what had been answered before. Recognised where the process "
        "records itself: answered GETs (2xx, 304) of the same address and query, made after the "
        "first had ended, whose answers did not change their size, and that are no polls. Saves "
        f"the wait of all after the first. {_WORTH} "
        "Do: keep the answer, in a variable or with functools.cache."
    ),
    "polling": (
        "The program asked for the same thing at regular intervals and did nothing in between. "
        f"Recognised where the process records itself: {repeats.LEAST_POLLS} such GETs, "
        f"{percent(repeats.REGULAR_SHARE)} of the intervals within "
        f"{percent(repeats.REGULAR_SPREAD)} of their median, gaps {repeats.IDLE_RATIO:g} times as "
        f"long as the calls, {percent(repeats.IDLE_SHARE)} of them without any call or CPU. Saves "
        "the wait of all after the first and half an interval, by which the end is seen late. "
        f"{_WORTH} Do: use a call that waits for the end, or be told of it; else ask less often."
    ),
    "batchable_calls": (
        "Many small calls of one kind, one after the other, that a larger one could stand for. "
        f"Recognised when there are more than {habits.MANY_CALLS}, for different things; "
        f"{percent(habits.SERIAL_SHARE)} of their time nothing else is in flight; requests and "
        f"answers have up to {habits.SMALL_BYTES // 1024} KiB and the median takes up to "
        f"{milliseconds(habits.SHORT_US / 1000)}. Saves, for all calls but one in {habits.BATCH}, "
        f"what the fastest 5 % take. {_WORTH} {_HEALTHY} "
        f"Do: ask for {habits.BATCH} at once, or for larger pages, where the service can."
    ),
    "serial_calls": (
        "Many calls of one kind, one after the other, while the program only waits. Recognised "
        f"when there are more than {habits.MANY_CALLS}, or {habits.FEWEST_LONG} that take "
        f"{seconds(habits.LONG_US)}; {percent(habits.SERIAL_SHARE)} of their time nothing else is "
        f"in flight, and {percent(habits.UPSTREAM_SHARE)} of it the service takes. Saves seven "
        f"eighths of their wait, with {habits.AT_ONCE} at once. {_WORTH} {_HEALTHY} "
        "Do: use a pool of threads or asyncio, if the calls do not depend on each other; pages "
        "that name the next one do."
    ),
}
"""What each cause and each pattern of the program's own calls means, how it is recognised, and
what to do about it."""
