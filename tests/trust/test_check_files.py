"""The user's own certificate files: each way in which they cannot work, told beforehand."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meshml_dbx.errors import TrustError
from meshml_dbx.trust import IdentityFiles, check_files, supply_authority, supply_identity

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
NOBODY = 65534


@pytest.fixture
def files(tmp_path: Path) -> IdentityFiles:
    """A chain, key and authority that belong together, valid at NOW."""
    return supply_identity(tmp_path / "trust", mesh_name="ml", name="labels", now=NOW)


def check(files: IdentityFiles, *, days: float = 0) -> None:
    """Check all three files as if so many days after NOW."""
    now = NOW + timedelta(days=days)
    check_files(files.certificate_chain, files.private_key, files.authority, now=now)


def authority_of(store: Path, *, days: float) -> bytes:
    """The authority of a store that is first used so many days after NOW."""
    now = NOW + timedelta(days=days)
    return supply_authority(store, mesh_name="ml", now=now).read_bytes()


def test_files_that_work_give_their_facts(files: IdentityFiles) -> None:
    """The facts are those of the chain's first certificate."""
    facts = check_files(files.certificate_chain, files.private_key, files.authority, now=NOW)
    assert facts.path == files.certificate_chain
    assert (facts.subject, facts.issuer) == ("CN=labels", "CN=ml local authority")
    assert facts.subject_alternative_names == ("spiffe://ml/labels",)
    assert (facts.not_before, facts.not_after) == (NOW - timedelta(minutes=5), files.not_after)
    assert not facts.is_authority


def test_an_authority_alone_can_be_checked(files: IdentityFiles) -> None:
    """A side that only verifies its peer has neither key nor chain of its own."""
    assert check_files(files.authority, None, None, now=NOW).is_authority


@pytest.mark.parametrize("missing", ["certificate_chain", "private_key", "authority"])
def test_a_missing_file_is_named(files: IdentityFiles, missing: str) -> None:
    """The message says which of the three does not exist, the advice what to do instead."""
    path: Path = getattr(files, missing)
    path.unlink()
    with pytest.raises(TrustError, match=f"{path} does not exist") as caught:
        check(files)
    assert "sds" in caught.value.advice


@pytest.mark.parametrize("spoilt", ["certificate_chain", "private_key", "authority"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"\x30\x82\x01", "is not PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "is PEM, but holds no"),
    ],
)
def test_a_file_that_is_not_pem_is_named(
    files: IdentityFiles, spoilt: str, content: bytes, found: str
) -> None:
    """Empty, binary and broken files are told apart, and none of their bytes is printed."""
    path: Path = getattr(files, spoilt)
    path.write_bytes(content)
    with pytest.raises(TrustError, match=f"{path} {found}"):
        check(files)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root for a moment, since root can read everything."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_a_file_that_may_not_be_read_is_named(files: IdentityFiles) -> None:
    """A file that is there but closed to this user is not called missing."""
    key = files.private_key.resolve()
    key.chmod(0)
    with (
        as_nobody(),
        pytest.raises(TrustError, match="cannot be read: Permission denied"),
    ):
        check_files(files.certificate_chain, key, None, now=NOW)


def test_a_folder_in_place_of_a_file_is_named(files: IdentityFiles, tmp_path: Path) -> None:
    """A path to a folder is told as such."""
    with pytest.raises(TrustError, match=f"{tmp_path} cannot be read: Is a directory"):
        check_files(tmp_path, files.private_key, None, now=NOW)


def test_an_expired_certificate_is_told_with_its_date(files: IdentityFiles) -> None:
    """Both dates stand in the message, so a wrong clock is seen as easily as an old file."""
    expected = "expired on 2026-11-30 14:30 UTC; it is 2026-12-01 14:30 UTC"
    with pytest.raises(TrustError, match=expected):
        check(files, days=8)


def test_a_certificate_of_the_future_is_told_with_its_date(files: IdentityFiles) -> None:
    """A certificate that is not valid yet is not called expired."""
    expected = "not valid before 2026-11-23 14:25 UTC; it is 2026-11-22 14:30 UTC"
    with pytest.raises(TrustError, match=expected):
        check(files, days=-1)


def test_an_expired_certificate_further_up_the_chain_counts(
    files: IdentityFiles, tmp_path: Path
) -> None:
    """A chain is as good as its shortest life."""
    chain = tmp_path / "chain.pem"
    old = authority_of(tmp_path / "old", days=-400)
    chain.write_bytes(files.certificate_chain.read_bytes() + old)
    with pytest.raises(TrustError, match=r"CN=ml local authority.* expired on 2026-10-19"):
        check_files(chain, files.private_key, None, now=NOW)


def test_a_bundle_of_authorities_needs_one_that_lives(files: IdentityFiles, tmp_path: Path) -> None:
    """Bundles carry expired authorities along; only when all have expired is it refused."""
    bundle = tmp_path / "bundle.pem"
    old = authority_of(tmp_path / "old", days=-400)
    coming = authority_of(tmp_path / "coming", days=400)
    bundle.write_bytes(old + files.authority.read_bytes() + coming)
    check_files(files.certificate_chain, files.private_key, bundle, now=NOW)
    bundle.write_bytes(old)
    with pytest.raises(TrustError, match=f"{bundle} .*expired on 2026-10-19"):
        check_files(files.certificate_chain, files.private_key, bundle, now=NOW)


def test_a_key_of_another_certificate_is_refused(files: IdentityFiles, tmp_path: Path) -> None:
    """Also when it is of another kind."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path / "other.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(TrustError, match=f"{path} does not belong to the certificate"):
        check_files(files.certificate_chain, path, None, now=NOW)


def test_a_chain_in_the_wrong_order_is_told_as_such(files: IdentityFiles, tmp_path: Path) -> None:
    """When the key fits a later certificate of the chain, the order is what is wrong."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(files.authority.read_bytes() + files.certificate_chain.read_bytes())
    with pytest.raises(TrustError, match="but to number 2 in that file") as caught:
        check_files(chain, files.private_key, None, now=NOW)
    assert caught.value.advice == f"put certificate number 2 first in {chain}"


def test_an_encrypted_key_is_refused_with_the_command_that_decrypts_it(
    files: IdentityFiles, tmp_path: Path
) -> None:
    """Nobody can be asked for a passphrase when a job starts at night."""
    key = load_pem_private_key(files.private_key.read_bytes(), password=None)
    path = tmp_path / "encrypted.key"
    secret = BestAvailableEncryption(b"passphrase")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with pytest.raises(TrustError, match=f"{path} is encrypted") as caught:
        check_files(files.certificate_chain, path, None, now=NOW)
    assert "openssl pkey" in caught.value.advice
