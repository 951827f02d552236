"""How often a target of some share may be called by chance: the exact bounds of a binomial.

Goes in: a number of calls, a share and the chance of a false alarm. Comes out: the counts that are
no alarm.
"""

from fractions import Fraction
from math import comb


def bounds(calls: int, share: Fraction, alarm: Fraction) -> range:
    """The counts outside which lies at most half of ``alarm`` on either side.

    >>> bounds(10, Fraction(1, 2), Fraction(1, 100))
    range(1, 10)
    >>> bounds(10, Fraction(0), Fraction(1, 100))
    range(0, 1)
    """
    chances = [
        comb(calls, hits) * share**hits * (1 - share) ** (calls - hits) for hits in range(calls + 1)
    ]
    return range(_first_kept(chances, alarm / 2), calls + 1 - _first_kept(chances[::-1], alarm / 2))


def _first_kept(chances: list[Fraction], alarm: Fraction) -> int:
    """How many counts from this end may be left out together."""
    left_out = Fraction(0)
    for number, chance in enumerate(chances):
        left_out += chance
        if left_out > alarm:
            return number
    return len(chances)
