"""What a finding code is: the classes of the table's entries."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters: an error stops every journey that needs the mesh."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One kind of finding: its number, title, how bad it is, and what to do about it."""

    number: str
    title: str
    severity: Severity
    advice: str
