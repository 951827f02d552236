"""What is wrong, or worth knowing, in the user's mesh: findings are data, not exceptions.

A finding names its place in the file. The one table of codes stands in ``finding_codes``, so that
``meshml check``, the documentation and later rooms say the same thing of the same problem.
"""

from dataclasses import dataclass

from meshml_dbx.finding_codes import CODES, Code, Severity

__all__ = ["CODES", "Code", "Finding", "Severity", "finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem at one place of the user's mesh.

    >>> finding("dangling-reference", where="mesh.yml:12 virtualServices[0]", what="no node x").code
    'dangling-reference'
    """

    code: str
    severity: Severity
    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.severity}: {self.what} [{self.number} {self.code}]"

    @property
    def number(self) -> str:
        """The number of its code, as ``meshml check --explain`` takes it."""
        return CODES[self.code].number


def finding(code: str, *, where: str, what: str, advice: str = "") -> Finding:
    """A finding with the severity and, unless given, the advice of its code."""
    known = CODES[code]
    return Finding(
        code=code, severity=known.severity, where=where, what=what, advice=advice or known.advice
    )
