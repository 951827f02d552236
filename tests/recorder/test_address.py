"""What of an address is written, and how calls for the same thing are told from others."""

import pytest

from meshml_dbx.recorder.address import (
    MOST_PATH,
    authority_of,
    called,
    forget_key,
    path_of,
    resource_of,
)


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("http", "api.example.com", 80, "api.example.com"),
        ("https", "api.example.com", 443, "api.example.com"),
        ("https", "api.example.com", None, "api.example.com"),
        ("https", "api.example.com", 80, "api.example.com:80"),
        ("http", "API.Example.COM", 8080, "api.example.com:8080"),
        ("http", "::1", 80, "[::1]"),
        ("http", "[::1]", 8080, "[::1]:8080"),
        ("http", "me:pw@api.example.com", 80, "api.example.com"),
        ("unix", "localhost", None, "localhost"),
    ],
)
def test_an_authority_is_host_and_port(
    scheme: str, host: str, port: int | None, expected: str
) -> None:
    """Small letters, no port where it is the scheme's own, and never a user."""
    assert authority_of(scheme, host, port) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/labels", "/v1/labels"),
        ("/v1/labels?key=k3y#part", "/v1/labels"),
        ("/v1/labels#part?key=k3y", "/v1/labels"),
        ("http://me:pw@host:8080/v1?key=k3y", "/v1"),
        ("http://me:pw@host", "/"),
        ("http://me:pw@host?key=k3y", "/"),
        ("", "/"),
        ("?key=k3y", "/"),
        ("*", "*"),
        ("//me:pw@host/v1", "//me:pw@host/v1"),
        ("/" + "x" * 5000, "/" + "x" * (MOST_PATH - 1)),
    ],
)
def test_a_path_is_written_without_what_may_be_secret(target: str, expected: str) -> None:
    """No query, no fragment, no user; and no more than a line can bear."""
    assert path_of(target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1", ("http", "proxy", 3128)),
        ("", ("http", "proxy", 3128)),
        ("*", ("http", "proxy", 3128)),
        ("/login?next=https://other/x", ("http", "proxy", 3128)),
        ("http://me:pw@api.example.com:81/v1", ("http", "api.example.com", 81)),
        ("https://api.example.com/v1?next=http://x", ("https", "api.example.com", None)),
        ("http://[::1]:81/", ("http", "::1", 81)),
    ],
)
def test_a_whole_address_says_itself_whom_it_is_for(
    target: str, expected: tuple[str, str, int | None]
) -> None:
    """What a proxy is told names the service; a path is for whom the connection goes to."""
    assert called("http", "proxy", 3128, target) == expected


def test_a_thing_has_one_number_as_long_as_the_process_lives() -> None:
    """Method, authority, query and range all tell things apart; 63 bits, never 0."""
    asked = [
        ("GET", "host", "/a"),
        ("POST", "host", "/a"),
        ("GET", "other", "/a"),
        ("GET", "host", "/a?x=1"),
        ("GET", "host", "/a", "bytes=0-9"),
    ]
    numbers = [resource_of(*one) for one in asked]
    assert numbers == [resource_of(*one) for one in asked]
    assert len(set(numbers)) == len(asked)
    assert all(0 < number < 2**63 for number in numbers)


def test_another_key_makes_other_numbers() -> None:
    """Numbers of one process cannot be looked up in another's."""
    before = resource_of("GET", "host", "/a?token=abc")
    forget_key()
    assert resource_of("GET", "host", "/a?token=abc") != before


def test_text_that_is_no_unicode_has_a_number_too() -> None:
    """Lone surrogates come from file names; they are no reason to fail."""
    assert resource_of("GET", "host", "/\udce4") > 0
