"""What a proxy sees of a request: the rules as they were measured on Envoy 1.40."""

import pytest

from meshml_dbx.mesh.requests import Facts, Request, normal_path


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/v1/labels", "/v1/labels"),
        ("/%76%31", "/v1"),
        ("/a%2Fb%c3%a9", "/a%2Fb%c3%a9"),
        ("/%zz%", "/%zz%"),
        ("/a/../../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/%2e./b", "/b"),
        ("/a/./b/", "/a/b/"),
        ("/...", "/..."),
        ("/a//b///", "/a/b/"),
        ("//", "//"),
        ("/a///../b", "/a/b"),
        (r"/a\..\b", "/b"),
        ('/a"<>^`{|}', "/a%22%3C%3E%5E%60%7B%7C%7D"),
    ],
)
def test_a_path_is_made_normal_as_envoy_makes_it(path: str, normal: str) -> None:
    """Letters unescaped, steps walked, doubled slashes merged; an escaped slash stays."""
    assert normal_path(path) == normal


def facts(*headers: tuple[str, str], path: str = "/") -> Facts:
    """A request with these headers."""
    return Facts(Request(authority="a:80", path=path, headers=headers))


def test_lines_of_one_header_are_values_of_their_own() -> None:
    """A match of one of them is a match; some that Envoy knows it keeps as one text."""
    assert facts(("X-A", "1"), ("x-a", " 2 ")).header("x-a") == ("1", "2")
    assert facts(("Accept", "a"), ("accept", "b")).header("accept") == ("a,b",)
    assert facts(("accept", ""), ("accept", "b")).header("accept") == ("b",)


@pytest.mark.parametrize("name", ["connection", "upgrade", "x-envoy-max-retries"])
def test_what_ends_at_the_proxy_is_not_seen(name: str) -> None:
    """A match of it is never met."""
    assert facts((name, "x")).header(name) is None


def test_the_parts_of_the_address_are_headers_too() -> None:
    """As :method and its like, and as host, which is the authority."""
    found = facts(path="/a?b")
    seen = [found.header(f":{name}") for name in ("method", "path", "scheme", "authority")]
    assert seen == [("GET",), ("/a?b",), ("http",), ("a:80",)]
    assert (found.header("host"), found.header("x-forwarded-proto")) == (("a:80",), ("http",))
    assert found.header("x-request-id") is not None


def test_a_query_is_taken_as_written() -> None:
    """The first of two counts, nothing is decoded, and case counts."""
    found = facts(path="/?a=1&a=2&b&c=%31=x&&D=")
    known = {name: found.parameter(name) for name in ("a", "b", "c", "D", "d", "x")}
    assert known == {"a": "1", "b": "", "c": "%31=x", "D": "", "d": None, "x": None}


@pytest.mark.parametrize(
    ("kind", "is_grpc"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc-web", False),
        ("application/grpc; x", False),
        ("Application/grpc", False),
    ],
)
def test_a_grpc_call_is_told_by_its_content_type(kind: str, *, is_grpc: bool) -> None:
    """Exactly that text, or with a plus after it."""
    assert facts(("content-type", kind)).is_grpc is is_grpc
