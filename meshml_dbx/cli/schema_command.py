"""``meshml schema``: the mesh file's JSON Schema, for editors."""

from pathlib import Path

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, write_json


@click.command(short_help="Print the JSON Schema of mesh.yml, for editors.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it here. [standard output]")
def schema(*, out: Path | None) -> None:
    """Print the JSON Schema of mesh.yml (draft 2020-12): completion and checks in your editor.

    An editor that speaks to the YAML language server needs one line at the top of mesh.yml:

    \b
      # yaml-language-server: $schema=mesh.schema.json

    \b
    Example:
      meshml schema --out mesh.schema.json
    """
    found = options.open_session(quiet=True).schema()
    if out:
        write_json(found, out)
    else:
        print_json(found)
