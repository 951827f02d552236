"""What is wrong in manifests becomes findings with places, whatever stands where."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from meshml_dbx.dialects.found import Account, Parameters
from meshml_dbx.dialects.kubernetes import read_kubernetes
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.tree import Entry, Node, Scalar, Series, Table, scalars
from tests.dialects.manifests import EXAMPLES, read_texts

HEAD = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\n"


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        (
            "apiVersion: appmesh.k8s.aws/v1\nkind: Mesh\nmetadata: {name: m}",
            "kubernetes-unknown-kind",
            "a.yaml:1",
        ),
        (
            "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Sidecar\nmetadata: {name: s}",
            "kubernetes-unknown-kind",
            "a.yaml:1",
        ),
        (
            "apiVersion: appmesh.k8s.aws/v1beta1\nkind: VirtualGateway\nmetadata: {name: g}",
            "kubernetes-unknown-kind",
            "a.yaml:1",
        ),
        (
            "apiVersion: appmesh.k8s.aws/v1beta2\nmetadata: {name: g}",
            "kubernetes-unknown-kind",
            "a.yaml:1",
        ),
        ("metadata: {name: g}", "kubernetes-unknown-kind", "a.yaml:1"),
        (f"{HEAD}spec: {{}}", "kubernetes-no-name", "a.yaml:1"),
        (f"{HEAD}metadata: {{namespace: ml}}", "kubernetes-no-name", "a.yaml:1"),
        (f"{HEAD}metadata: {{name: 5}}", "kubernetes-no-name", "a.yaml:1"),
        (f"{HEAD}metadata: {{name: [a]}}", "kubernetes-no-name", "a.yaml:1"),
        (f"{HEAD}metadata: {{name: a, namespace: {{b: c}}}}", "kubernetes-no-name", "a.yaml:1"),
        (f"{HEAD}metadata: [a]", "kubernetes-wrong-type", "a.yaml:1"),
        (f"{HEAD}metadata: {{name: a}}\nspec: [b]", "kubernetes-wrong-type", "a.yaml:4 spec"),
        (
            f"{HEAD}metadata: {{name: a}}\nspcs: {{b: c}}",
            "kubernetes-unknown-field",
            "a.yaml:4 spcs",
        ),
        (f"{HEAD}metadata: {{name: a}}\nkind: Mesh", "duplicate-field", "a.yaml:4 kind"),
        (
            "apiVersion: v1\nkind: List\nitems: [a]",
            "kubernetes-wrong-type",
            "a.yaml:3 items[0]",
        ),
    ],
)
def test_a_document_that_cannot_be_read_is_named(text: str, code: str, place: str) -> None:
    """One finding leads to the line, and nothing of the document is left unsaid."""
    found = read_texts(text)
    assert (found.places(code), found.leftovers) == ([place], ())


@pytest.mark.parametrize(
    ("spec", "code", "place"),
    [
        ("awsName: [a]", "kubernetes-wrong-type", "spec.awsName"),
        ("meshRef: [a]", "kubernetes-wrong-type", "spec.meshRef"),
        ("backendGroups: [stores]", "kubernetes-wrong-type", "spec.backendGroups[0]"),
        ("backendGroups: [{namespace: a}]", "kubernetes-wrong-type", "spec.backendGroups[0]"),
        (
            "backends: [{virtualService: {virtualServiceRef: features}}]",
            "kubernetes-wrong-type",
            "spec.backends[0].virtualService.virtualServiceRef",
        ),
        (
            "backends: [{virtualService: {virtualServiceRef: {name: a, namespace: [b]}}}]",
            "kubernetes-wrong-type",
            "spec.backends[0].virtualService.virtualServiceRef.namespace",
        ),
        (
            "backends: [{virtualService: {virtualServiceRef: {name: a, kind: b}}}]",
            "kubernetes-unknown-field",
            "spec.backends[0].virtualService.virtualServiceRef.kind",
        ),
        (
            "backends: [{virtualService: {virtualServiceRef: {name: a}, virtualServiceARN: b}}]",
            "exactly-one",
            "spec.backends[0].virtualService.virtualServiceARN",
        ),
        (
            "backends: [{virtualService: {virtualServiceARN: 'a:mesh/m/virtualNode/n'}}]",
            "kubernetes-wrong-type",
            "spec.backends[0].virtualService.virtualServiceARN",
        ),
        (
            "backends: [{virtualService: {virtualServiceName: features.ml}}]",
            "kubernetes-unknown-field",
            "spec.backends[0].virtualService.virtualServiceName",
        ),
        (
            "listeners: [{tls: {certificate: {acm: {certificateArn: a}}}}]",
            "kubernetes-unknown-field",
            "spec.listeners[0].tls.certificate.acm.certificateArn",
        ),
        (
            "backendDefaults: {clientPolicy: {tls: {mode: STRICT}}}",
            "kubernetes-unknown-field",
            "spec.backendDefaults.clientPolicy.tls.mode",
        ),
        (
            "listeners: [{portMaping: {port: 80}}]",
            "kubernetes-unknown-field",
            "spec.listeners[0].portMaping",
        ),
    ],
)
def test_a_mistake_in_a_spec_leads_to_its_place(spec: str, code: str, place: str) -> None:
    """The rest of the node is still read, and the value at the place is not in it."""
    found = read_texts(f"{HEAD}metadata: {{name: a, namespace: ml}}\nspec:\n  {spec}")
    assert (found.places(code), found.names("virtualNode"), len(found.leftovers)) == (
        [f"a.yaml:5 {place}"],
        ["a_ml"],
        0,
    )


@pytest.mark.parametrize(
    ("spec", "field", "meant"),
    [
        ("{listeners: [{portMaping: {port: 80}}]}", "portMaping", "portMapping"),
        (
            "{backends: [{virtualService: {virtualServiceName: a}}]}",
            "virtualServiceName",
            "virtualServiceRef",
        ),
        (
            "{listeners: [{tls: {certificate: {acm: {certificateArn: a}}}}]}",
            "certificateArn",
            "certificateARN",
        ),
    ],
)
def test_what_is_meant_by_an_unknown_field_is_guessed(spec: str, field: str, meant: str) -> None:
    """A cluster drops it without a word, which is how such mistakes live for years."""
    found = read_texts(f"{HEAD}metadata: {{name: a, namespace: ml}}\nspec: {spec}")
    assert found.whats("kubernetes-unknown-field") == [
        f"a cluster drops the field {field}, which App Mesh's kinds do not have here; "
        f"did you mean {meant}?"
    ]


def test_a_value_of_the_wrong_type_is_left_to_the_mesh_s_own_rules() -> None:
    """It comes through with its place, so that the mesh's loader reports it as always."""
    found = read_texts(f"{HEAD}metadata: {{name: a, namespace: ml}}\nspec: {{listeners: 80}}")
    assert found.spec("virtualNode", "a_ml") == {"listeners": 80}


# --- whatever stands where --------------------------------------------------------------------


def other(node: Node, rng: random.Random) -> Node:
    """Something else in the place of a node."""
    at = node.place
    word = Scalar(value="a", place=at)
    choices: list[Node] = [
        Scalar(value=None, place=at),
        Scalar(value=5, place=at),
        Scalar(value=True, place=at),
        Scalar(value="x/y", place=at),
        Series(place=at, items=(word, Scalar(value=1, place=at))),
        Table(place=at, entries=()),
        Table(place=at, entries=(Entry(key="name", place=at, value=word),)),
    ]
    return rng.choice(choices)


def mutated(node: Node, rng: random.Random, rate: float) -> Node:
    """A copy of a tree with parts replaced, fields dropped, doubled and renamed."""
    if rng.random() < rate:
        return other(node, rng)
    if isinstance(node, Scalar):
        return replace(node)
    if isinstance(node, Series):
        return replace(node, items=tuple(mutated(one, rng, rate) for one in node.items))
    entries: list[Entry] = []
    for entry in node.entries:
        copies = rng.choices([1, 0, 2], [1, rate, rate])[0]
        key = entry.key
        if rng.random() < rate:
            key = rng.choice(["name", "spec", "kind", "virtualNodeARN", "virtualNodeRef", "routes"])
        entries += [
            Entry(key=key, place=entry.place, value=mutated(entry.value, rng, rate))
            for _ in range(copies)
        ]
    return replace(node, entries=tuple(entries))


def example_trees() -> Sequence[Table]:
    """Every document of the examples."""
    return [
        tree
        for path in sorted(EXAMPLES.glob("kubernetes-*.yaml"))
        for tree in read_text(path.read_text(encoding="utf-8"), path.name)
        if isinstance(tree, Table)
    ]


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.1])
def test_whatever_stands_where_is_read_and_accounted_for(rate: float) -> None:
    """No mutation of the examples ends in an exception, or in a value that nothing speaks of."""
    originals = example_trees()
    for seed in range(150):
        rng = random.Random(seed)
        copies = [mutated(tree, rng, rate) for tree in originals]
        trees = [tree for tree in copies if isinstance(tree, Table)]
        account = Account()
        for one in read_kubernetes(trees, account, Parameters()):
            account.use(one.name, one.mesh, one.parent, one.spec)
            account.use(*(value for _, value in one.fields))
        left = [it for tree in trees for it in scalars(tree) if not account.is_settled(it)]
        assert not left, f"seed {seed}: {left[0].place}"
