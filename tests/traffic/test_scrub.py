"""What never reaches a table: each rule on what it is for, and on what it must leave alone."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshml_dbx.traffic.scrub import (
    GUARD,
    RULES,
    is_secret_name,
    scrub_addresses,
    scrub_text,
    split_query,
)

VALUE = "s3cr3t-Value.of_somebody"


@pytest.mark.parametrize(
    "text",
    [
        f"authorization: Bearer {VALUE}",
        f'{{"authorization":"Token {VALUE}"}}',
        f'{{"message":"{{\\"Cookie\\": \\"sid={VALUE}; b=2\\"}}"}}',
        f"Proxy-Authorization=Basic {VALUE}",
        f"Set-Cookie: session={VALUE}; Path=/",
        f"curl/8.9 bearer {VALUE}",
        f"/v1/x?access_token={VALUE}&page=2",
        f"/v1/x?page=2&sig={VALUE}",
        f"https://ann:{VALUE}@records.ml.local/v1",
        f"client_secret={VALUE}",
        f'"apiKey": "{VALUE}"',
        f"X-Amz-Security-Token%3D?X-Amz-Signature={VALUE}",
    ],
)
def test_no_secret_is_left(text: str) -> None:
    """Whatever way a credential is written, its value is gone."""
    assert VALUE not in scrub_text(text)
    assert "s3cr3t" not in scrub_text(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "{removed}"),
        ("/keys/AKIAIOSFODNN7EXAMPLE/x", "/keys/{removed}/x"),
        ("/t/dapi" + "0a" * 16 + "/x", "/t/{removed}/x"),
        ("/u/ann.lee%40corp.example/labels", "/u/{removed}/labels"),
        ("/v1/x?a=1&b=2", "/v1/x?a=&b="),
        ("//ann@host/x", "//{removed}@host/x"),
    ],
)
def test_what_is_left_of_a_text(text: str, left: str) -> None:
    """What stands around a secret is kept."""
    assert scrub_text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "/v1/labels/2026-11-22",
        "python-requests/2.32.3",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "outbound|8000||httpbin.foo.svc.cluster.local",
        "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
        "spiffe://ml/churn-training",
        "labels.ml.local:8080",
        "/v1/tokens/count",
        "/cookies/basic",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Paths, agents, names and failures are kept to the letter."""
    assert scrub_text(text) == text


@pytest.mark.parametrize(
    ("addresses", "left"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("203.0.113.77:443,10.0.0.7", "203.0.113.0:443,10.0.0.7"),
        ("172.16.3.4, 172.32.3.4", "172.16.3.4, 172.32.3.0"),
        ("192.168.1.2 127.0.0.1 169.254.1.1", "192.168.1.2 127.0.0.1 169.254.1.1"),
        ("fd00::1", "fd00::1"),
    ],
)
def test_public_addresses_lose_their_last_part(addresses: str, left: str) -> None:
    """Addresses inside a network stay; one from outside tells its network only."""
    assert scrub_addresses(addresses) == left


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("authorization", True),
        ("REQ(AUTHORIZATION)", True),
        ("REQ(COOKIE)", True),
        ("x-api-key", True),
        ("x_auth_token", True),
        ("resp(set-cookie)", True),
        ("user_agent", False),
        ("TRACE_ID", False),
        ("tokenizer", False),
        ("REQ(X-COHORT)", False),
    ],
)
def test_names_of_what_is_never_kept(name: str, *, secret: bool) -> None:
    """A value is judged by its name, too."""
    assert is_secret_name(name) is secret


def test_a_query_is_split_off_with_its_names() -> None:
    """Names of a query are kept, values never; no query is not an empty one."""
    assert split_query("/a?b=1&c&d=") == ("/a", "b&c&d")
    assert split_query("/a?") == ("/a", "")
    assert split_query("/a") == ("/a", None)


@given(st.text(max_size=200))
def test_the_guard_lets_nothing_by(text: str) -> None:
    """A text that the guard finds nothing in is one that no rule would change."""
    if not re.search(GUARD, text):
        assert scrub_text(text) == text


@given(st.text(max_size=200))
def test_scrubbing_again_changes_nothing(text: str) -> None:
    """What was scrubbed holds nothing more to remove."""
    once = scrub_text(text)
    assert scrub_text(once) == once


@pytest.mark.parametrize(
    "piece", ["a", "=", "?a=", "token:", "eyJ", "@a.", "//", "basic ", "&", "a.", "_"]
)
def test_a_megabyte_takes_a_moment(piece: str) -> None:
    """No text makes a rule look again and again at the same place."""
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    scrub_text(text)
    assert time.process_time() - began < 5


def test_the_rules_are_plain_enough_for_java() -> None:
    """Java knows no named groups of Python's, nor its backslash replacements."""
    for rule in RULES:
        assert "(?P" not in rule.pattern
        assert "\\" not in rule.replacement
        assert re.compile(rule.pattern).groups == rule.replacement.count("$")
