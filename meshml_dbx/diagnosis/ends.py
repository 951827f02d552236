"""How calls ended, in a few words: codes and flags, the commonest first.

Goes in: a case and some of its rows. Comes out: texts.
"""

from collections import Counter

import numpy as np

from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.table import Ints

_MOST_KINDS = 3


def kinds(case: Case, rows: Ints) -> str:
    """How some calls ended, the commonest first."""
    numbers, table = case.table.numbers["code"], case.table
    width = len(table.names["flags"]) + 1
    keys, counts = np.unique(
        numbers[rows] * width + table.codes["flags"][rows] + 1, return_counts=True
    )
    ends: Counter[str] = Counter()
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        code, flag = divmod(key, width)
        ends[kind_of(code, table.names["flags"][flag - 1] if flag else None)] += count
    return listed(ends)


def kind_of(code: int | None, flags: str | None) -> str:
    """One ending: its code and its flags."""
    shown = str(code) if code and code > 0 else "no answer"
    return shown if flags in (None, "-") else f"{shown} {flags}"


def listed(ends: Counter[str]) -> str:
    """The commonest endings and how often each came."""
    return ", ".join(f"{kind} x {count}" for kind, count in ends.most_common(_MOST_KINDS))


def commonest(case: Case, column: str, rows: Ints) -> str:
    """The commonest text of a column, empty where there is none."""
    codes = case.table.codes[column][rows]
    codes = codes[codes >= 0]
    return case.table.names[column][int(np.argmax(np.bincount(codes)))] if len(codes) else ""
