"""What a finding's code means: why it matters, what to do, and a small mesh file that shows it.

A number or a slug goes in; its explanation comes out. The files stand in ``mesh/examples``, named
by number and slug: first the reason as a comment, then ``# Mend: this => that``, then the mesh.
"""

from dataclasses import dataclass
from importlib.resources import files

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.finding_codes import CODES
from meshml_dbx.mesh.names import closest

_MEND = "# Mend: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A code in full; ``example`` is empty where it needs more than one mesh file to show it.

    >>> explanation_of("MESH017").slug
    'plaintext'
    """

    number: str
    slug: str
    title: str
    severity: str
    why: str
    advice: str
    example: str
    mends: tuple[tuple[str, str], ...]

    @property
    def mended(self) -> str:
        """The example without what it shows."""
        text = self.example
        for wrong, right in self.mends:
            text = text.replace(wrong, right)
        return text


def explanation_of(wanted: str) -> Explanation:
    """The explanation of a code, named by its number or its slug.

    Raises:
        UnknownNameError: there is no such code.
    """
    numbers = {code.number: slug for slug, code in CODES.items()}
    slug = numbers.get(wanted.upper(), wanted.lower())
    if slug not in CODES:
        guess = closest(wanted, [*CODES, *numbers])
        asked = f"; did you mean {guess}?" if guess else ""
        raise UnknownNameError(
            f"there is no finding {wanted}{asked}",
            advice="meshml check --explain lists them all",
        )
    return _explained(slug)


def explained_codes() -> tuple[Explanation, ...]:
    """Every code's explanation, by number."""
    return tuple(_explained(slug) for slug in sorted(CODES, key=lambda it: CODES[it].number))


def _explained(slug: str) -> Explanation:
    code = CODES[slug]
    comments, example = _read(f"{code.number}-{slug}.yml")
    mends = [line.removeprefix(_MEND) for line in comments if line.startswith(_MEND)]
    pairs = (mend.partition(" =>") for mend in mends)
    why = (line.removeprefix("# ") for line in comments if not line.startswith(_MEND))
    return Explanation(
        number=code.number,
        slug=slug,
        title=code.title,
        severity=str(code.severity),
        why=" ".join(why),
        advice=code.advice,
        example=example,
        mends=tuple((wrong, right.strip()) for wrong, _, right in pairs),
    )


def _read(name: str) -> tuple[list[str], str]:
    """The comments at the head of an example, and the mesh below them."""
    path = files("meshml_dbx.mesh") / "examples" / name
    if not path.is_file():
        return [], ""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    head = [line.rstrip("\n") for line in lines if line.startswith("# ")]
    return head, "".join(line for line in lines if not line.startswith("# "))
