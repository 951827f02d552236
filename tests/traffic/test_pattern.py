"""A path's template: identifiers out, names in, bounded, and the same when it is applied twice."""

import random
import string

import pytest

from meshml_dbx.traffic.pattern import MAX_SEGMENTS, RULES, path_template, pattern_of

PATHS = {
    "/": "/",
    "": "",
    "-": "-",
    "*": "*",
    "/v1/labels": "/v1/labels",
    "/v1/labels/": "/v1/labels/",
    "/v1/labels/7": "/v1/labels/{}",
    "/v1/labels/7/": "/v1/labels/{}/",
    "/v1/labels/2026-11-23": "/v1/labels/{}",
    "/v2.1/labels/a7/b": "/v2.1/labels/{}/b",
    "/v1": "/v1",
    "/v1beta2/jobs": "/{}/jobs",
    "/vault/secret": "/vault/secret",
    "/users/0d3a5c1e-7f8b-4a53-9a6e-2f1f4f0f7f11/runs": "/users/{}/runs",
    "/users/jane@example.org": "/users/{}",
    "/users/J%C3%BCrgen": "/users/{}",
    "/a//b": "/a//b",
    "/7/8/9": "/{}/{}/{}",
    "/serving-endpoints/churn_model/invocations": "/serving-endpoints/churn_model/invocations",
    "/" + "a" * 32: "/" + "a" * 32,
    "/" + "a" * 33: "/{}",
    "/a/b/c/d/e/f/g/h": "/a/b/c/d/e/f/g/h",
    "/a/b/c/d/e/f/g/h/i": "/a/b/c/d/e/f/g/h/{}",
    "/a/b/c/d/e/f/g/h/i/j/k": "/a/b/c/d/e/f/g/h/{}",
    "/{}/x": "/{}/x",
    "/a;b=c/d": "/{}/d",
}


@pytest.mark.parametrize(("path", "template"), PATHS.items())
def test_the_template_of_a_path(path: str, template: str) -> None:
    """Names of resources stay, whatever tells one resource from another goes."""
    assert path_template(path) == template


def random_paths(number: int) -> list[str]:
    """Paths of all sorts, the same ones in every run."""
    chance = random.Random(20261123)
    alphabet = string.ascii_letters + string.digits + "/" * 12 + "-._~{}%@:,;=+$!é日 "
    return ["/" + "".join(chance.choices(alphabet, k=chance.randrange(120))) for _ in range(number)]


def test_a_template_is_its_own_template() -> None:
    """Applying the rules twice changes nothing: templates can be joined with templates."""
    changed = [
        path
        for path in random_paths(5_000)
        if path_template(path_template(path)) != path_template(path)
    ]
    assert changed == []


def test_a_template_is_bounded() -> None:
    """However long a path is, its template has few segments of bounded length."""
    for path in (*random_paths(2_000), "/x" * 10_000, "/" + "x" * 100_000, "/" * 50_000):
        segments = path_template(path).split("/")[1:]
        assert len(segments) <= MAX_SEGMENTS + 1
        assert max(map(len, segments)) <= 32


def test_a_template_keeps_no_digit_but_a_versions() -> None:
    """Days, numbers and hashes never make a pattern of their own."""
    for path in random_paths(2_000):
        segments = path_template(path).split("/")
        digits = [one for one in segments if set(one) & set(string.digits)]
        assert [one for one in digits if not one.startswith("v")] == []


def test_a_million_identifiers_make_one_pattern() -> None:
    """A page's number is not an endpoint."""
    assert len({pattern_of("GET", f"/v1/records/{n}") for n in range(1_000)}) == 1


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/records/17", "GET /v1/records/{}"),
        ("POST", "/v1/records/17", "POST /v1/records/{}"),
        (None, "/a", "- /a"),
        ("CONNECT", None, "CONNECT -"),
        (None, None, "- -"),
    ],
)
def test_a_pattern_is_method_and_template(
    method: str | None, path: str | None, expected: str
) -> None:
    """What is not known is a dash, as in the proxy's own log."""
    assert pattern_of(method, path) == expected


def test_the_rules_are_written_for_python_and_java() -> None:
    """No syntax that only one of them knows, such as named groups or possessive repeats."""
    for rule, replacement in RULES:
        assert not any(mark in rule for mark in ("(?P", "(?<", "++", "*+", "\\Z", "\\z", "\\d"))
        assert "\\" not in replacement
