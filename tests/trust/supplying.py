"""A process that supplies identities: once it is told to, or again and again until it is killed.

supplying.py STORE once NAME…        says ready, waits for a line, supplies, prints JSON
supplying.py STORE forever NAME…     says ready, then issues each name anew without end
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from meshml_dbx.trust import describe, supply_identity


def supply_once(store: Path, names: list[str]) -> None:
    """Print the serial number of each name's certificate as this process found it."""
    sys.stdin.readline()
    for name in names:
        supply_identity(store, mesh_name="ml", name=name, now=datetime.now(UTC))
    serials = {facts.subject_alternative_names: facts.serial for facts in describe(store, "ml")}
    json.dump({name: serials[(f"spiffe://ml/{name}",)] for name in names}, sys.stdout)


def supply_forever(store: Path, names: list[str]) -> None:
    """Let the clock jump to and fro by more than a certificate's usable life."""
    for turn in count():
        now = datetime.now(UTC) + timedelta(days=5 * (turn % 2))
        for name in names:
            supply_identity(store, mesh_name="ml", name=name, now=now)


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    work = {"once": supply_once, "forever": supply_forever}[sys.argv[2]]
    work(Path(sys.argv[1]), sys.argv[3:])
