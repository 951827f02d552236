"""What the authority issues, field by field, and when the next one is due: pure functions."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshml_dbx.trust import spiffe_id
from meshml_dbx.trust.authority import (
    Credential,
    choose_issuer,
    is_fresh,
    is_issued_by,
    issue_identity,
    make_authority,
    needs_authority,
    renew_after,
)
from meshml_dbx.trust.certificate import validity

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)


def issue(authority: Credential, name: str = "labels") -> x509.Certificate:
    """An identity's certificate, issued at NOW."""
    return issue_identity(authority, mesh_name="ml", name=name, now=NOW).certificate


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("labels-v2", "spiffe://ml/labels-v2"),
        ("Labels_v2.a~b", "spiffe://ml/Labels_v2.a~b"),
        ("a/b c", "spiffe://ml/a%2Fb%20c"),
        ("ü", "spiffe://ml/%C3%BC"),
        ("100%", "spiffe://ml/100%25"),
        ("..", "spiffe://ml/%2E%2E"),
    ],
)
def test_a_name_becomes_one_segment_of_a_uri(name: str, expected: str) -> None:
    """Plain names stay as they are written in the mesh file; the rest is percent-encoded."""
    assert expected == spiffe_id("ml", name)


def test_an_authority_may_issue_identities_and_nothing_else() -> None:
    """CA with path length 0, marked critical, whose key signs certificates and lists only."""
    extensions = make_authority("ml", now=NOW).certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)


def test_an_identity_serves_and_calls_and_issues_nothing() -> None:
    """Both sides of a connection use the same certificate; its only name is its SPIFFE id."""
    authority = make_authority("ml", now=NOW)
    extensions = issue(authority).extensions
    uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [x509.UniformResourceIdentifier("spiffe://ml/labels")] == list(names)


def test_an_identity_is_valid_for_a_peer_whose_clock_is_behind() -> None:
    """Seven days from now, and five minutes back; never longer than its authority."""
    authority = make_authority("ml", now=NOW)
    since, until = validity(issue(authority))
    assert (since, until) == (NOW - timedelta(minutes=5), NOW + timedelta(days=7))
    assert validity(authority.certificate)[0] <= since


def test_only_the_authority_that_signed_it_issued_it() -> None:
    """Authorities of one mesh bear the same name, so it is the signature that counts."""
    one, other = make_authority("ml", now=NOW), make_authority("ml", now=NOW)
    assert is_issued_by(issue(one), one.certificate)
    assert not is_issued_by(issue(one), other.certificate)


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 255, "\ud800\0\n\t"])
def test_a_common_name_is_cut_to_what_a_certificate_may_hold(name: str) -> None:
    """Long and unprintable names shorten the common name, never the SPIFFE id."""
    authority = make_authority(name, now=NOW)
    for certificate in (authority.certificate, issue(authority, name)):
        common_name = str(next(iter(certificate.subject)).value)
        assert len(common_name.encode()) <= 64
        assert common_name.isprintable()
    found = issue(authority, name).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [x509.UniformResourceIdentifier(spiffe_id("ml", name))] == list(found.value)


def test_a_certificate_is_fresh_while_more_than_a_third_of_its_life_is_left() -> None:
    """Not before it is valid, and not from the moment of renewal on."""
    identity = issue(make_authority("ml", now=NOW))
    since, until = validity(identity)
    due = renew_after(identity)
    assert until - due == (until - since) / 3
    moments = (since - timedelta(seconds=1), since, due - timedelta(seconds=1), due)
    assert [is_fresh(identity, now=moment) for moment in moments] == [False, True, True, False]


def test_the_oldest_authority_that_outlives_an_identity_issues_it() -> None:
    """The one that all peers know goes on until a seven-day identity would outlive it."""
    old = make_authority("ml", now=NOW - timedelta(days=357)).certificate
    new = make_authority("ml", now=NOW - timedelta(days=100)).certificate
    assert old == choose_issuer([new, old], now=NOW)
    assert new == choose_issuer([new, old], now=NOW + timedelta(days=2))
    assert choose_issuer([new, old], now=NOW + timedelta(days=300)) is None
    assert choose_issuer([new, old], now=NOW - timedelta(days=400)) is None


def test_one_more_authority_is_needed_when_all_are_in_their_last_third() -> None:
    """A mesh without an authority that can issue needs one too."""
    old = make_authority("ml", now=NOW - timedelta(days=300)).certificate
    new = make_authority("ml", now=NOW).certificate
    assert needs_authority([], now=NOW)
    assert needs_authority([old], now=NOW)
    assert not needs_authority([old, new], now=NOW)
    assert needs_authority([new], now=NOW - timedelta(days=1))
