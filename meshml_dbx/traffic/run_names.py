"""Which run a person means: an id, the begin of one, a name, ``last``, or a page's address.

Goes in: runs and what was typed. Comes out: one run, or an error that lists the closest.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from meshml_dbx.errors import UnknownRunError
from meshml_dbx.traffic.ownership import Run

LAST = "last"
LISTED = 5
"""How many runs a message lists."""

_RUN_PAGE = re.compile(r"https?://.*/runs/([^/?#]+)")
_NEXT = "name another tracking store with --tracking or MLFLOW_TRACKING_URI"
BEGIN_A_RUN = "put the work that is slow into a run, `with mlflow.start_run(): ...`, and ask again"
"""For whoever has none yet: an answer is always about a run."""


def pick_run(runs: Iterable[Run], name: str) -> Run:
    """The one of these runs that ``name`` means; of several of that name the newest.

    Raises:
        UnknownRunError: no run answers to it, or several ids begin with it.

    >>> run = Run(run_id="4f1c0b", name="churn", experiment_id="0", status="FINISHED", start_time=0)
    >>> pick_run([run], "4f").name
    'churn'
    """
    newest_first = in_order(runs)[::-1]
    wanted = run_of_page(name)
    if wanted == LAST and newest_first:
        return newest_first[0]
    for exact in (
        [run for run in newest_first if run.run_id == wanted],
        [run for run in newest_first if run.name == wanted],
    ):
        if exact:
            return exact[0]
    begun = [run for run in newest_first if wanted and run.run_id.startswith(wanted.lower())]
    if len(begun) == 1:
        return begun[0]
    raise _ambiguous(wanted, begun) if begun else _unknown(wanted, newest_first)


def run_of_page(name: str) -> str:
    """The run id in the address of a run's page; anything else as it is.

    >>> run_of_page("http://localhost:5000/#/experiments/1/runs/4f1c0b/artifacts")
    '4f1c0b'
    """
    found = _RUN_PAGE.match(name.strip())
    return found[1] if found else name.strip()


def _ambiguous(name: str, begun: list[Run]) -> UnknownRunError:
    listed = ", ".join(_label(run) for run in begun[:LISTED])
    more = f" and {len(begun) - LISTED} more" if len(begun) > LISTED else ""
    return UnknownRunError(
        f"{name!r} begins the ids of {len(begun)} runs: {listed}{more}",
        advice="give more of the id",
    )


def _unknown(name: str, newest_first: tuple[Run, ...]) -> UnknownRunError:
    if not newest_first:
        return UnknownRunError(
            f"no run answers to {name!r}: the tracking store has none",
            advice=f"{BEGIN_A_RUN}; or {_NEXT}",
        )
    by_text = {run.run_id[: max(len(name), 6)]: run for run in reversed(newest_first)}
    by_text |= {run.name: run for run in reversed(newest_first)}
    close = get_close_matches(name, by_text, n=3, cutoff=0.5)
    likely = [by_text[text] for text in close] or list(newest_first[:3])
    listed = ", ".join(dict.fromkeys(_label(run) for run in likely))
    return UnknownRunError(
        f"no run answers to {name!r} among the newest {len(newest_first)}; "
        f"{'closest' if close else 'newest'}: {listed}",
        advice=f"take one of these, give the whole run id, or {_NEXT}",
    )


def _label(run: Run) -> str:
    return f"{run.run_id[:12]} ({run.name})"


def in_order(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs, oldest first."""
    return tuple(sorted(runs, key=lambda run: (run.start_time, run.run_id)))
