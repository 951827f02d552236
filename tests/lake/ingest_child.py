"""An ingest in a process of its own, to be killed: arguments are lake, logs and checkpoint."""

import sys
from pathlib import Path

from meshml_dbx.lake.ingest import ingest
from meshml_dbx.lake.spark import local_session
from meshml_dbx.lake.tables import TableNames, open_lake


def main() -> None:
    """Say when Spark is up, wait for a line, then take in what is there."""
    lake, logs, checkpoint = sys.argv[1:4]
    spark = local_session(warehouse=Path(lake).parent / "warehouse", memory="1g", brief=True)
    names = open_lake(spark, TableNames.of(lake))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    ingest(spark, names, logs=logs, checkpoint=checkpoint)
    sys.stdout.write("done\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
