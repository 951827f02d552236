"""Whether it was the mesh, the program, or nobody can say: the run's time accounted for in full.

Wall time = waits + tunnels + CPU + unexplained. Goes in: a case and its suspects. Comes out: the
coverage, the verdict with its honest reason, and one sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.causes import ERROR_CAUSES
from meshml_dbx.diagnosis.diagnosis import Coverage
from meshml_dbx.diagnosis.rank import NONE, Suspect
from meshml_dbx.diagnosis.table import Ints
from meshml_dbx.diagnosis.units import counted, percent, seconds
from meshml_dbx.diagnosis.waits import covered_us
from meshml_dbx.traffic.access_log import END_TYPE, UNFINISHED_TYPE

SMALL_WAIT_SHARE = 0.2
LARGE_WAIT_SHARE = 0.5
CPU_SHARE = 0.6
"""``mesh``: something is to blame, and waits are not small, or it failed calls or hangs; or waits
take half of the run. ``program``: waits are small and CPU takes three fifths of it. Else
``unknown``."""

WORTH_SAYING_SHARE = 0.1

NO_PROXYS_VIEW = (
    "no proxy's view: calls by libraries that are not recorded (gRPC, Spark's JVM, …) and what the "
    "service saw"
)
"""Said of a run whose calls only the calling process recorded; it changes no verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on a run, its one sentence, and the account of its time."""

    verdict: str
    sentence: str
    coverage: Coverage


def judge(case: Case, suspects: Sequence[Suspect], *, between_polls_us: int = 0) -> Judged:
    """The verdict on a run; ``between_polls_us`` is what it slept between calls for the same."""
    blamed = [one for one in suspects if one.cause != NONE]
    coverage = account(case)
    verdict = _verdict(case, blamed, coverage)
    if verdict == "unknown":
        coverage = _with_reasons(case, coverage, between_polls_us)
    return Judged(
        verdict=verdict, sentence=_sentence(case, verdict, blamed, coverage), coverage=coverage
    )


def waited_on(*, seen_by_client: bool) -> str:
    """What a run waited on: there is a mesh only where a proxy saw the calls."""
    return "on calls" if seen_by_client else "on the mesh"


def account(case: Case) -> Coverage:
    """Where the run's time went that was not spent waiting for calls."""
    tunnel = _tunnel_us(case)
    left = case.duration_us - case.waits.total_us - tunnel
    total = case.evidence.cpu_s
    cpu = 0 if total is None else min(round(total * 1e6), left)
    return Coverage(
        cpu_s=None if total is None else cpu / 1e6,
        tunnel_s=tunnel / 1e6,
        unexplained_s=(left - cpu) / 1e6,
        cpu_total_s=total,
        not_seen=_not_seen(case, tunnel),
    )


def _tunnel_us(case: Case) -> int:
    """The time in which a tunnel was open and no call was in flight."""
    if not case.evidence.tunnels:
        return 0
    begun = [one.start_time for one in case.evidence.tunnels]
    ended = [
        one.end_time if one.type in {END_TYPE, UNFINISHED_TYPE} else case.span[1]
        for one in case.evidence.tunnels
    ]
    start, end = (
        np.clip(np.array(moments, dtype=np.int64), *case.span) for moments in (begun, ended)
    )
    both: tuple[Ints, Ints] = (
        np.concatenate([case.table.start, start]),
        np.concatenate([case.table.end, np.maximum(start, end)]),
    )
    return covered_us(*both) - case.waits.total_us


def _verdict(case: Case, blamed: Sequence[Suspect], coverage: Coverage) -> str:
    duration = max(case.duration_us, 1)
    share = case.waits.total_us / duration
    if not len(case.table):
        return "unknown"
    certain = any(one.cause in ERROR_CAUSES or _hangs(case, one) for one in blamed)
    if blamed and (share >= SMALL_WAIT_SHARE or certain):
        return "mesh"
    if share >= LARGE_WAIT_SHARE:
        return "mesh"
    cpu_share = (coverage.cpu_s or 0.0) * 1e6 / duration
    return "program" if share < SMALL_WAIT_SHARE and cpu_share >= CPU_SHARE else "unknown"


def _hangs(case: Case, suspect: Suspect) -> bool:
    """Whether the run hangs on it, however long it had worked before."""
    return suspect.cause == "stuck_call" and bool(case.table.open[suspect.rows].any())


def _not_seen(case: Case, tunnel: int) -> tuple[str, ...]:
    """What the makers of evidence missed, and what only the whole account shows."""
    listed, lost = list(case.evidence.not_seen), case.evidence.ledger.lost
    if tunnel >= WORTH_SAYING_SHARE * max(case.duration_us, 1):
        listed.append(f"what passed inside https connections, open alone for {seconds(tunnel)}")
    if lost:
        counter = "recorder" if case.seen_by_client else "proxy"
        listed.append(f"{counted(lost, 'call')} that the {counter} counted and no line tells of")
    if case.seen_by_client:
        listed.append(NO_PROXYS_VIEW)
    return tuple(dict.fromkeys(listed))


def _with_reasons(case: Case, coverage: Coverage, between_polls_us: int) -> Coverage:
    """What was not seen, with the time that nothing explains where there is much of it."""
    unexplained = coverage.unexplained_s * 1e6
    listed = list(coverage.not_seen)
    if unexplained >= WORTH_SAYING_SHARE * max(case.duration_us, 1):
        used = "" if coverage.cpu_s is None else " and no CPU was used"
        calls = "of libraries that are not recorded"
        slept = min(between_polls_us, unexplained)
        polled = f"; {seconds(slept)} of it between polls" if slept else ""
        missed = calls if case.seen_by_client else "that do not pass the proxy"
        listed.append(
            f"{seconds(unexplained)} in which no call was in flight{used}: "
            f"sleep, disk, or calls {missed}{polled}"
        )
    return Coverage(
        cpu_s=coverage.cpu_s,
        tunnel_s=coverage.tunnel_s,
        unexplained_s=coverage.unexplained_s,
        cpu_total_s=coverage.cpu_total_s,
        not_seen=tuple(listed),
    )


def _sentence(case: Case, verdict: str, blamed: Sequence[Suspect], coverage: Coverage) -> str:
    share = case.waits.total_us / max(case.duration_us, 1)
    waited = f"{seconds(case.waits.total_us)} of {seconds(case.duration_us)} ({percent(share)})"
    on = waited_on(seen_by_client=case.seen_by_client)
    if not len(case.table):
        return "No call of this run was recorded, so nothing can be said about its waits."
    if verdict == "mesh" and blamed:
        first = blamed[0]
        cause = first.cause.replace("_", " ")
        named = f"{describe(first)} is to blame ({cause})"
        return f"The run waited {waited} {on}; {named}, which cost {seconds(first.cost_us)}."
    if verdict == "mesh":
        return f"Nothing is wrong with the services: the run waited {waited} on healthy calls."
    cpu = "unknown" if coverage.cpu_s is None else seconds(coverage.cpu_s * 1e6)
    if verdict == "program":
        return f"The program itself is slow: {cpu} of CPU, and only {waited} waiting {on}."
    return (
        f"Too little was seen to say why: {waited} waiting {on}, CPU {cpu}, "
        f"{seconds(coverage.unexplained_s * 1e6)} unexplained."
    )


def describe(suspect: Suspect) -> str:
    """A target by its service and route.

    A host outside the mesh has neither.
    """
    place = suspect.place
    route = f" / {place.route}" if place.route else ""
    target = f" → {place.target}" if place.target else ""
    return f"{place.service}{route}{target}"
