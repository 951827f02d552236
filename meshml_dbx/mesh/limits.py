"""The ranges that App Mesh sets, written beside the types that they bind.

``spec`` builds its fields from the annotated types here, and ``load`` asks each annotation whether
a value breaks it.
"""

import re
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Limit:
    """The least and the most that is accepted: of a number itself, else of its length.

    >>> Limit(0, 100).broken_by(101)
    'must be from 0 to 100'
    """

    least: int
    most: int | None = None

    def broken_by(self, value: int | str | tuple[object, ...] | dict[str, str]) -> str:
        """What the value must be, or nothing if it is that."""
        match value:
            case int():
                size, unit = value, ""
            case str():
                size, unit = len(value), " characters long"
            case _:
                size, unit = len(value), " entries long"
        fits = self.least <= size and (self.most is None or size <= self.most)
        return "" if fits else f"must be {self._span()}{unit}"

    def _span(self) -> str:
        if self.most is None:
            return f"at least {self.least}"
        return str(self.least) if self.least == self.most else f"from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Form:
    """A regular expression that the whole of a text must meet, and how to say so.

    >>> Form("/.*", "start with /").broken_by("v1")
    'must start with /'
    """

    pattern: str
    rule: str

    def broken_by(self, value: object) -> str:
        """What the value must do, or nothing if it does."""
        met = re.fullmatch(self.pattern, str(value), re.DOTALL)
        return "" if met else f"must {self.rule}"


# A parameter that is still unknown, ${LIKE_THIS}, may stand in a text until it is given.
PARAMETER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_:.-]*)\}")


def has_parameter(*texts: str) -> bool:
    """Whether a text holds a parameter without a value, so that nobody knows yet what it says.

    >>> has_parameter("labels.${ENV}.ml"), has_parameter("labels.ml")
    (True, False)
    """
    return any("${" in text and PARAMETER.search(text) for text in texts)


_UNKNOWN = r"\$\{[A-Za-z_][A-Za-z0-9_:.-]*\}"
# Names become host names, parts of certificates' URIs and folders: a slash in one would be a hole.
Name = Annotated[
    str,
    Limit(1, 255),
    Form(
        rf"([A-Za-z0-9]|{_UNKNOWN})([A-Za-z0-9._-]|{_UNKNOWN})*",
        "start with a letter or digit and hold only letters, digits, '.', '_' and '-'",
    ),
]
# SPIRE serves its secrets under the SPIFFE ids themselves.
SecretName = Annotated[
    str,
    Limit(1, 255),
    Form(
        rf"(spiffe://([A-Za-z0-9._-]|{_UNKNOWN})+(/(?!\.\.?(/|$))([A-Za-z0-9._-]|{_UNKNOWN})+)*"
        rf"|([A-Za-z0-9]|{_UNKNOWN})([A-Za-z0-9._-]|{_UNKNOWN})*)",
        "start with a letter or digit and hold only letters, digits, '.', '_' and '-', "
        "or be a spiffe:// URI",
    ),
]
Text = Annotated[str, Limit(1, 255)]
LongText = Annotated[str, Limit(1, 1024)]
LogText = Annotated[str, Limit(1, 1000)]
LogPart = Annotated[str, Limit(1, 100)]
HostName = Annotated[str, Limit(1, 253)]
AccountId = Annotated[str, Form(rf"\d{{12}}|{_UNKNOWN}", "be twelve digits")]
UrlPath = Annotated[str, Limit(1, 255), Form(r"(/|\$\{).*", "start with /")]
Port = Annotated[int, Limit(1, 65535)]
Percent = Annotated[int, Limit(0, 100)]
Count = Annotated[int, Limit(0)]
PositiveCount = Annotated[int, Limit(1)]
Tags = Annotated[dict[str, str], Limit(0, 50)]
