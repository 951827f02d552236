"""``meshml import``: App Mesh definitions in any dialect become a mesh file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json
from meshml_dbx.findings import Finding, Severity

if TYPE_CHECKING:
    from meshml_dbx.mesh.spec import InjectedDefaults, Mesh

FORMATS = ("api-json", "cloudformation", "kubernetes", "terraform", "own")


def parse_parameters(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Values by name.

    >>> parse_parameters(None, None, ("ENV=dev",))
    {'ENV': 'dev'}
    """
    pairs = [value.partition("=") for value in values]
    for name, sign, _ in pairs:
        if not (name and sign):
            raise click.BadParameter(f"{name!r} has no value; write NAME=VALUE")
    return {name: value for name, _, value in pairs}


@click.command("import", short_help="Turn App Mesh definitions in any form into mesh.yml.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=parse_parameters,
    help="The value of a parameter or placeholder; again for each.",
)
@click.option(
    "--account", metavar="NUMBER", help="The AWS account that the definitions were written for."
)
@click.option(
    "--format", "dialect", type=click.Choice(FORMATS), help="The dialect. [told by the content]"
)
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    help="A JSON file of what the API's JSON leaves out: names, operations, jq variables.",
)
@click.option(
    "--mesh-name",
    metavar="NAME",
    help="Which of several meshes, or the name of one that has none.",
)
@click.option(
    "--injected-defaults",
    type=click.Choice(["modern", "legacy", "none"]),
    help="Policies that App Mesh added unasked: to accounts whose first mesh is of 2020-07-29 or "
    "later (modern), or earlier (legacy). [modern, unless the input is a mesh.yml]",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["mesh", "api"]),
    default="mesh",
    show_default=True,
    help="Write mesh.yml, or the API's create requests.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write here; with --as api a folder, one file per request. [standard output]",
)
@click.option("--force", is_flag=True, help="Overwrite what --out names.")
@click.option("--partial", is_flag=True, help="Write also what is left when parts are wrong.")
@options.options(options.as_json, options.quiet)
@click.pass_context
def import_mesh(
    context: click.Context,
    *,
    paths: tuple[str, ...],
    parameters: dict[str, str],
    account: str | None,
    dialect: str | None,
    names: Path | None,
    mesh_name: str | None,
    injected_defaults: "InjectedDefaults | None",
    form: Literal["mesh", "api"],
    out: Path | None,
    force: bool,
    partial: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn App Mesh definitions into mesh.yml, with every value accounted for.

    PATH is a file, a folder, a pattern in quotes, or - for standard input. CloudFormation,
    Kubernetes, Terraform, the API's JSON and mesh.yml may be mixed. What is not carried over, and
    what `check` says of the mesh, is said on standard error with its file, line and path; --quiet
    leaves out what is only worth knowing.

    If a definition cannot be read, nothing is written unless you say --partial. Exits 1 when
    anything is wrong, also where the mesh is written and only `check` finds errors in it.

    \b
    Examples:
      meshml import app-mesh/ --out mesh.yml
      meshml import template.yaml --param ProjectName=shop --account 123456789012
      meshml import 'k8s/**/*.yaml' --json
      terraform show -json | meshml import - --out mesh.yml
      meshml import mesh.yml --as api --out requests/
    """
    if out and not force:
        refuse_to_overwrite(out, form)
    if form == "api" and injected_defaults is None:
        injected_defaults = "none"  # App Mesh adds its own again
    imported = options.open_session(quiet=quiet).import_mesh(
        paths,
        parameters=parameters,
        account=account,
        dialect=dialect,
        names=names,
        mesh_name=mesh_name,
        injected_defaults=injected_defaults,
    )
    mesh = imported.mesh if imported.complete or partial else None
    texts, value, unsaid = in_form(mesh, form) if mesh else ({}, None, ())
    if mesh and out:
        write_texts(texts, out, form)
    findings = [*imported.findings, *unsaid, *imported.checked]
    if as_json:
        print_json({"mesh": value, "findings": plain_findings(findings), **imported.to_json()})
    else:
        if mesh and not out:
            click.echo(
                texts.get("", json.dumps(value, indent=2, ensure_ascii=False) + "\n"), nl=False
            )
        for line in () if quiet else imported.file_lines():
            click.echo(line, err=True)
        tell(findings, quiet=quiet)
        click.echo(imported.summary(), err=True)
        if mesh and out:
            tell_written(mesh, out, form, len(texts))
        elif mesh is None:
            more = "" if partial or imported.complete else ", or --partial"
            click.echo(f"nothing is written: see the errors{more}", err=True)
    if mesh is None or any(one.severity is Severity.ERROR for one in findings):
        context.exit(1)


# --- what is written --------------------------------------------------------------------------


def refuse_to_overwrite(out: Path, form: str) -> None:
    """Raise where there is something already."""
    taken = out.is_dir() and any(out.iterdir()) if form == "api" else out.exists()
    if taken or (form == "api" and out.is_file()):
        raise click.UsageError(f"{out} is there already; --force overwrites it")


def in_form(mesh: "Mesh", form: str) -> tuple[dict[str, str], object, Sequence[Finding]]:
    """Texts by file name, the same as one JSON value, and what the form has no words for."""
    from meshml_dbx.mesh.write import mesh_to_plain, mesh_to_yaml
    from meshml_dbx.mesh.write_api import mesh_to_api

    if form == "mesh":
        return {"": mesh_to_yaml(mesh)}, mesh_to_plain(mesh), ()
    made = mesh_to_api(mesh)
    texts = {
        request.file_name(number): json.dumps(request.body, indent=2, ensure_ascii=False) + "\n"
        for number, request in enumerate(made.requests, 1)
    }
    return texts, [request.body for request in made.requests], made.findings


def write_texts(texts: dict[str, str], out: Path, form: str) -> None:
    """One file, or a folder of them."""
    try:
        if form == "api":
            out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"could not write {out}: {error.strerror}") from error


# --- what is said -----------------------------------------------------------------------------


def plain_findings(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """The findings for programs."""
    return [
        {
            "code": one.code,
            "severity": str(one.severity),
            "where": one.where,
            "what": one.what,
            "advice": one.advice,
        }
        for one in findings
    ]


def tell(findings: Sequence[Finding], *, quiet: bool) -> None:
    """The findings on standard error, with advice on those that ask for something."""
    for one in findings:
        if one.severity is not Severity.INFO:
            click.echo(f"{one}\n    {one.advice}", err=True)
        elif not quiet:
            click.echo(str(one), err=True)


def tell_written(mesh: "Mesh", out: Path, form: str, count: int) -> None:
    """Where the mesh went, and what reads it there."""
    what = f"wrote {out}: mesh {mesh.mesh.mesh_name}"
    if form == "api":
        click.echo(f"{what} in {count} requests", err=True)
    else:
        click.echo(f"{what}\nnext: meshml check {out}", err=True)
