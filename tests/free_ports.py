"""Free ports for tests: no two tests are given the same, nor does an outgoing connection take one.

Asking the system for port 0 twice may give one port twice, and whoever connects to somewhere in
between may be given it too. So each process of tests claims a block of ports below those for
outgoing connections, by listening on its first, and hands the others out in turn.
"""

import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

_BLOCK = 500
_BLOCKS = range(10_000, 20_000, _BLOCK)  # steady ports of sidecars begin at 20,000


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    return next(port for port in _claimed()[1] if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


@cache
def _claimed() -> tuple[socket.socket, Iterator[int]]:
    """The claim, held while this process lives, and the ports behind it, in turn."""
    for first in random.sample(_BLOCKS, len(_BLOCKS)):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", first))
            claim.listen()
        except OSError:
            claim.close()
            continue
        return claim, itertools.cycle(range(first + 1, first + _BLOCK))
    raise RuntimeError("no block of ports is free for tests: end other runs of them")
