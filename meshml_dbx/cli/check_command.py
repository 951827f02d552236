"""``meshml check``: what is wrong with a mesh file, and what a finding means."""

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table
from meshml_dbx.findings import Finding, Severity

if TYPE_CHECKING:
    from meshml_dbx.mesh.explanations import Explanation
    from meshml_dbx.session import Session

ALL = "all"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.options(options.mesh, options.as_json)
@click.option(
    "--explain",
    is_flag=False,
    flag_value=ALL,
    metavar="[CODE]",
    help="Say what a finding means, with an example; without CODE, list them all.",
)
@click.pass_context
def check(
    context: click.Context,
    *,
    file: Path | None,
    mesh: Path | None,
    as_json: bool,
    explain: str | None,
) -> None:
    """Check a mesh file: every problem with its line, in one go.

    Exits 1 when one of them is an error.

    \b
    Examples:
      meshml check mesh.yml
      meshml check --explain MESH017
      meshml check --explain
    """
    session = options.open_session(mesh=file or mesh, quiet=True)
    if explain:
        print_explanations(session, explain, as_json=as_json)
        return
    findings = session.check()
    if as_json:
        print_json([as_object(found) for found in findings])
    else:
        for found in findings:
            click.echo(f"{found}\n    {found.advice}")
        click.echo(session.mesh_summary())
    if any(found.severity is Severity.ERROR for found in findings):
        context.exit(1)


def as_object(found: Finding) -> dict[str, str]:
    """A finding as JSON tells it."""
    return {
        "number": found.number,
        "code": found.code,
        "severity": str(found.severity),
        "where": found.where,
        "what": found.what,
        "advice": found.advice,
    }


def print_explanations(session: "Session", wanted: str, *, as_json: bool) -> None:
    """One code in full, or all of them as a table."""
    found = session.explain_findings(None if wanted == ALL else wanted)
    if as_json:
        print_json([asdict(one) for one in found])
    elif wanted == ALL:
        rows = ((one.number, one.slug, one.severity, one.title) for one in found)
        print_table(("number", "code", "severity", "means"), rows)
    else:
        click.echo("\n".join(text for one in found for text in _paragraphs(one)))


def _paragraphs(one: "Explanation") -> list[str]:
    head = f"{one.number} {one.slug} ({one.severity}): {one.title}"
    shown = [head, *(["", textwrap.fill(one.why, 96)] if one.why else [])]
    shown += ["", f"What to do: {one.advice}"]
    if one.example:
        shown += ["", "For example:", "", textwrap.indent(one.example.rstrip(), "    ")]
        shown += [
            "",
            *(f"Mended: {wrong} -> {right or '(taken out)'}" for wrong, right in one.mends),
        ]
    return shown
