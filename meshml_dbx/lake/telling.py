"""How far a long reading is, told now and then. Goes in: texts, often. Comes out: few of them."""

import time
from collections.abc import Callable

EVERY_S = 2.0


class Telling:
    """Says how far something is, once it has lasted for two seconds, and then every two.

    >>> Telling(print, clock=iter((0.0, 1.0, 2.5)).__next__).tell("not yet")
    """

    def __init__(
        self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say = say
        self._clock = clock
        self._last = clock()

    def is_due(self) -> bool:
        """Whether two seconds have gone by since it was due last."""
        now = self._clock()
        if now - self._last < EVERY_S:
            return False
        self._last = now
        return True

    def tell(self, text: str) -> None:
        """Say it, if it is time for it."""
        if self.is_due():
            self.say(text)
