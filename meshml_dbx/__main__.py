"""``python -m meshml_dbx`` is ``meshml``."""

from meshml_dbx.cli import main

main()
