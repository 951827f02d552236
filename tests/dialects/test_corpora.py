"""Real App Mesh definitions: how many there are, and that no value of them goes unaccounted."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from meshml_dbx.dialects import Imported, Source, Wanted, import_files, read_names, read_sources
from meshml_dbx.findings import Severity
from tests.dialects.importing import (
    CORPORA,
    NAMES,
    Leaf,
    codes,
    imported,
    is_named,
    leaves_of,
    with_corpora,
)

COUNTS = json.loads((CORPORA / "counts.json").read_text()) if CORPORA.is_dir() else {"folders": {}}
MOST_IN_THE_GATE = 25  # values of one group that are changed one by one; the soak changes all


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files that belong together, and what was said beside them."""

    paths: str
    has_names: bool = False
    parameters: dict[str, str] = field(default_factory=dict)

    def sources(self) -> tuple[Source, ...]:
        """The files, whose names in findings begin at the corpora."""
        found = read_sources([str(CORPORA / self.paths)])
        return tuple(replace(one, name=str(Path(one.name).relative_to(CORPORA))) for one in found)

    def wanted(self) -> Wanted:
        """What was said beside the files."""
        names = read_names(NAMES) if self.has_names else None
        return Wanted(names=names, parameters=self.parameters)


CROSS_ACCOUNT = {"ProjectName": "demo", "MeshName": "demo-mesh", "MeshOwner": "123456789012"}
GROUPS = [
    *(
        Group(paths=paths)
        for paths in (
            "01-http-headers",
            "02-external-traffic",
            "03-tls-file",
            "04-tls-acm",
            "05-cloudmap",
            "06-outlier-detection/mesh.yaml",
            "07-timeout-policy/mesh.yaml",
            "09-grpc-gateway",
            "11-ipv6",
            "13-metrics-extension",
            "14-crossvpc-tls",
            "18-k8s-http-ingress",
            "19-k8s-mtls-sds",
            "20-k8s-policies/connection-pools",
            "20-k8s-policies/outlier-detection",
            "20-k8s-policies/timeout-policy",
            "21-k8s-log-format",
            "22-k8s-cloudmap",
            "23-migration-pair",
        )
    ),
    Group(paths="06-outlier-detection/*.json", has_names=True),
    Group(paths="07-timeout-policy/*[!1].json", has_names=True),  # route1 is an alternative
    Group(paths="08-grpc", has_names=True, parameters={"ProjectName": "howto-grpc"}),
    Group(paths="10-http2", has_names=True, parameters={"ProjectName": "howto-http2"}),
    Group(paths="12-cross-account", parameters=CROSS_ACCOUNT),
    Group(paths="15-multiple-listeners", has_names=True),
    Group(paths="16-circuit-breakers", has_names=True),
    Group(paths="17-mtls-file", has_names=True),
]
each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.paths)


def kind_of(name: str) -> str:
    """Our name of a kind that the corpora call as Kubernetes does."""
    return name[0].lower() + name[1:]


@with_corpora
@pytest.mark.parametrize("folder", COUNTS["folders"])
def test_every_definition_of_a_folder_is_found(folder: str) -> None:
    """As many definitions of each kind as the corpora count, before equal ones fall together."""
    expected = COUNTS["folders"][folder]["definitions"]
    found = imported(CORPORA / folder).definitions
    assert {kind_of(kind): count for kind, count in expected.items() if count} == dict(found)


@with_corpora
@each_group
def test_every_group_makes_a_mesh_without_an_error(group: Group) -> None:
    """What ran on App Mesh is read whole, and nothing of it is left without a word."""
    found = import_files(group.sources(), group.wanted())
    wrong = [str(one) for one in found.findings if one.severity is Severity.ERROR]
    assert wrong == []
    assert "import-leftover" not in codes(found)
    assert found.mesh is not None


# --- no value goes unaccounted ----------------------------------------------------------------


def outcome(found: Imported) -> tuple[object, object]:
    """All that an import says: the mesh, and the findings."""
    return found.mesh, sorted((one.code, one.where, one.what) for one in found.findings)


def changed(text: str, leaf: Leaf) -> str:
    """The text with this one value changed into another of its kind."""
    old = text[leaf.begin : leaf.end]
    if leaf.value.isdigit() and old == leaf.value:
        new = str(int(old) + 1)
    elif old in ("true", "false"):
        new = "false" if old == "true" else "true"
    elif old[:1] in ("'", '"'):
        new = f"{old[:-1]}x{old[-1]}"
    elif old[:1] in ("|", ">"):
        new = old.replace(leaf.value.strip()[:3], "xyz", 1)
    else:
        new = f"{old.rstrip()}x{old[len(old.rstrip()) :]}"
    return text[: leaf.begin] + new + text[leaf.end :]


def unaccounted(group: Group, most: int | None) -> Iterator[str]:
    """Values that no finding leaves out, and that can change without a trace."""
    sources, wanted = group.sources(), group.wanted()
    before = import_files(sources, wanted)
    chosen = [
        (index, leaf)
        for index, source in enumerate(sources)
        for leaf in leaves_of(source.raw.decode())
        if not is_named(leaf, source.name, before.findings)
    ]
    if most is not None and len(chosen) > most:
        chosen = random.Random(group.paths).sample(chosen, most)
    for index, leaf in chosen:
        after = import_files(_with_change(sources, index, leaf), wanted)
        if outcome(after) == outcome(before):
            yield f"{sources[index].name}:{leaf.line} {leaf.path}"


def _with_change(sources: Sequence[Source], index: int, leaf: Leaf) -> list[Source]:
    text = changed(sources[index].raw.decode(), leaf)
    return [
        replace(source, raw=text.encode()) if at == index else source
        for at, source in enumerate(sources)
    ]


@with_corpora
@each_group
def test_no_value_is_dropped_in_silence(group: Group) -> None:
    """A value is named by a finding as left out, or the mesh changes when it changes."""
    assert list(unaccounted(group, MOST_IN_THE_GATE)) == []


@with_corpora
@pytest.mark.soak
@each_group
def test_no_value_at_all_is_dropped_in_silence(group: Group) -> None:
    """The same for every value of every file."""
    assert list(unaccounted(group, None)) == []


# --- files that are broken --------------------------------------------------------------------


@with_corpora
@pytest.mark.parametrize("name", ["appserver", "redis", "yelb_db", "yelb_ui"])
def test_a_broken_manifest_is_an_error_at_its_line_and_gives_nothing(name: str) -> None:
    """Half a file is never imported in silence: the line is named, and that nothing is taken."""
    path = CORPORA / "negative" / f"{name}_update.yaml"
    found = imported(path)
    first = found.findings[0]
    assert (first.code, first.where) == ("import-unreadable", f"{path}:11")
    assert "nothing of this file is imported" in first.what
    assert (found.mesh, dict(found.definitions)) == (None, {})


@with_corpora
def test_unquoted_braces_are_read_as_the_placeholders_they_are() -> None:
    """What is no YAML but a template's placeholder is read; the file's own mistakes are not."""
    wanted = Wanted(mesh_name="yelb")
    found = imported(CORPORA / "negative" / "yelb-gw.yaml", wanted=wanted)
    assert dict(found.definitions) == {"virtualGateway": 1, "gatewayRoute": 1, "virtualNode": 1}
    assert found.mesh is not None
