"""A process whose children supply an identity and are killed: at their first touch of the disk,
at their second, and so on, each in a store of its own, until one lives to the end.

    dying.py FOLDER DAYS       stores FOLDER/1, FOLDER/2 …; prints how many children were killed

With DAYS above 0 each store was first used that long ago, so that there is something to renew.
"""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from meshml_dbx.trust import supply_identity

TOUCHES = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "fcntl.flock"}


def die_at(step: int) -> None:
    """Have this process kill itself when it is about to touch the disk for the step-th time."""
    touches = count(1)

    def watch(event: str, _arguments: tuple[object, ...]) -> None:
        if event in TOUCHES and next(touches) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def supply(store: Path, *, now: datetime) -> None:
    """Supply the one identity of these stores."""
    supply_identity(store, mesh_name="ml", name="labels", now=now)


def survives(store: Path, step: int, *, now: datetime) -> bool:
    """Whether a child that dies at this step had finished before."""
    child = os.fork()
    if child == 0:
        die_at(step)
        supply(store, now=now)
        os._exit(0)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    now, age = datetime.now(UTC), timedelta(days=int(sys.argv[2]))
    for step in count(1):
        store = Path(sys.argv[1]) / str(step)
        if age:
            supply(store, now=now - age)
        if survives(store, step, now=now):
            sys.stdout.write(f"{step - 1}\n")
            break
