"""Identities and the store they come from: reuse, renewal, safe names, and what is refused."""

import fcntl
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from meshml_dbx.errors import TrustError
from meshml_dbx.trust import IdentityFiles, describe, supply_authority, supply_identity
from meshml_dbx.trust.store import locked

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
NOBODY = 65534


def supply(
    store: Path, name: str = "labels", *, mesh_name: str = "ml", days: float = 0
) -> IdentityFiles:
    """An identity as it is supplied so many days after NOW."""
    now = NOW + timedelta(days=days)
    return supply_identity(store, mesh_name=mesh_name, name=name, now=now)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Each entry below a folder with its inode and time of change."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {str(path): (state.st_ino, state.st_mtime_ns) for path, state in found}


def test_the_second_call_touches_nothing(tmp_path: Path) -> None:
    """While an identity is fresh, supplying it again changes no file."""
    first = supply(tmp_path / "trust")
    before = tree(tmp_path)
    assert first == supply(tmp_path / "trust", days=1)
    assert before == tree(tmp_path)


def test_an_identity_is_reissued_once_two_thirds_of_its_life_are_over(tmp_path: Path) -> None:
    """Until renew_after the same certificate is given out, from then on a new one and a new key."""
    first = supply(tmp_path / "trust")
    chain, key = first.certificate_chain.read_bytes(), first.private_key.read_bytes()
    left = first.renew_after - NOW - timedelta(seconds=1)
    assert first == supply(tmp_path / "trust", days=left / timedelta(days=1))
    assert chain == first.certificate_chain.read_bytes()

    later = supply(tmp_path / "trust", days=(first.renew_after - NOW) / timedelta(days=1))
    assert later.certificate_chain == first.certificate_chain
    assert later.not_after > first.not_after
    assert chain != first.certificate_chain.read_bytes()
    assert key != first.private_key.read_bytes()


def test_a_reader_between_two_files_still_finds_the_pair_it_began(tmp_path: Path) -> None:
    """The version before stays until the next renewal; the one before that is gone."""
    turns = (supply(tmp_path / "trust", days=days) for days in (0, 6, 12))
    resolved = [turn.private_key.resolve() for turn in turns]
    assert [path.exists() for path in resolved] == [False, True, True]


def test_other_identities_survive_a_renewal(tmp_path: Path) -> None:
    """Renewing one identity changes nothing of another, nor of another mesh."""
    other = supply(tmp_path / "trust", "scoring")
    foreign = supply(tmp_path / "trust", mesh_name="other")
    supply(tmp_path / "trust")
    before = {path: tree(path.certificate_chain.parent) for path in (other, foreign)}
    supply(tmp_path / "trust", days=6)
    assert before == {path: tree(path.certificate_chain.parent) for path in (other, foreign)}


def test_only_the_owner_can_open_anything(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600, whatever the process's umask says."""
    before = os.umask(0)
    try:
        supply(tmp_path / "trust")
    finally:
        os.umask(before)
    entries = [tmp_path / "trust", *(tmp_path / "trust").rglob("*")]
    for path in (entry for entry in entries if not entry.is_symlink()):
        expected = 0o700 if path.is_dir() else 0o600
        assert expected == stat.S_IMODE(path.stat().st_mode), path


def test_a_repr_holds_no_key(tmp_path: Path) -> None:
    """What supply_identity and describe return names files and dates only."""
    files = supply(tmp_path / "trust")
    key = "".join(files.private_key.read_text().splitlines()[1:-1])
    shown = repr(files) + repr(describe(tmp_path / "trust", "ml"))
    assert "PRIVATE" not in shown
    assert key[:16] not in shown


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..", ".", "a/b", "Labels", "ünï çödé", "x" * 255, "\ud800\0\n"]
)
def test_any_name_stays_inside_the_store(tmp_path: Path, name: str) -> None:
    """A name may hold anything; its files lie in the store, its URI has two plain segments."""
    store = tmp_path / "state" / "trust"
    files = supply(store, name, mesh_name=name)
    assert files.certificate_chain.resolve().is_relative_to(store)
    assert [store.parent] == list(tmp_path.iterdir())
    assert [store] == list(store.parent.iterdir())
    assert re.fullmatch(r"spiffe://[\w.%~-]+/[\w.%~-]+", files.spiffe_id, re.ASCII)
    assert not {"", ".", ".."} & set(files.spiffe_id.removeprefix("spiffe://").split("/"))


def test_names_that_look_alike_are_different_identities(tmp_path: Path) -> None:
    """Names whose readable part is the same do not share a folder."""
    names = ["a b", "a-b", "A-B", "a/b", "a" * 254 + "b", "a" * 255]
    folders = {supply(tmp_path / "trust", name).certificate_chain.parent for name in names}
    assert len(names) == len(folders)


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    """An identity without a name would be the mesh itself."""
    with pytest.raises(TrustError, match="an identity needs the names"):
        supply(tmp_path / "trust", "")


def test_an_authority_is_published_long_before_it_issues(tmp_path: Path) -> None:
    """A successor joins the bundle with a third of the life left, and issues when it must."""
    store = tmp_path / "trust"
    counts = {}
    for days in (0, 240, 250, 350, 362, 366, 400):
        issuer = _issuer(supply(store, days=days))
        bundle = x509.load_pem_x509_certificates(_bundle(store, days))
        counts[days] = len(bundle), [_key_id(one) for one in bundle].index(issuer)
    assert counts == {
        0: (1, 0),
        240: (1, 0),
        250: (2, 0),
        350: (2, 0),
        362: (2, 1),
        366: (1, 0),
        400: (1, 0),
    }


def _bundle(store: Path, days: float) -> bytes:
    now = NOW + timedelta(days=days)
    return supply_authority(store, mesh_name="ml", now=now).read_bytes()


def _issuer(files: IdentityFiles) -> bytes:
    certificate = x509.load_pem_x509_certificate(files.certificate_chain.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert found.value.key_identifier
    return found.value.key_identifier


def _key_id(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


@pytest.mark.parametrize("days", [-30, 400], ids=["clock set back", "unused for a year"])
def test_a_store_serves_at_any_time(tmp_path: Path, days: float) -> None:
    """When no authority is valid now there is a new one, and the identity is valid now."""
    supply(tmp_path / "trust")
    supply(tmp_path / "trust", days=days)
    identity = describe(tmp_path / "trust", "ml")[-1]
    assert identity.is_valid(NOW + timedelta(days=days))


def test_an_identity_of_a_removed_authority_is_issued_anew(tmp_path: Path) -> None:
    """The advice that errors give, to remove the authority's folder, leads to a working store."""
    first = supply(tmp_path / "trust")
    authority = describe(tmp_path / "trust", "ml")[0].path.parent
    for path in authority.iterdir():
        path.unlink()
    authority.rmdir()
    chain = first.certificate_chain.read_bytes()
    supply(tmp_path / "trust")
    assert chain != first.certificate_chain.read_bytes()
    assert [one.is_authority for one in describe(tmp_path / "trust", "ml")] == [True, False]


def test_describe_lists_authority_and_identities(tmp_path: Path) -> None:
    """The listing has one entry per certificate of that mesh, with its names and dates."""
    supply(tmp_path / "trust", mesh_name="other")
    files = supply(tmp_path / "trust")
    authority, identity = describe(tmp_path / "trust", "ml")
    assert authority.is_authority
    assert authority.subject == authority.issuer == identity.issuer == "CN=ml local authority"
    assert identity.subject_alternative_names == ("spiffe://ml/labels",)
    assert (identity.not_after, identity.path) == (files.not_after, files.certificate_chain)


def test_describe_of_nothing_is_empty(tmp_path: Path) -> None:
    """Asking makes no store."""
    assert describe(tmp_path / "trust", "ml") == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_store_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    """The message gives folder and mode, the advice the command that mends it."""
    store = tmp_path / "trust"
    supply(store)
    store.chmod(mode)
    for use in (lambda: supply(store), lambda: describe(store, "ml")):
        with pytest.raises(TrustError, match=rf"{store} is open to other users \(mode {mode:04o}"):
            use()
    store.chmod(0o700)
    supply(store)


def test_a_store_of_another_user_is_refused(tmp_path: Path) -> None:
    """Whoever owns the store could swap its keys, so it has to be ours."""
    store = tmp_path / "trust"
    if os.geteuid() == 0:
        store.mkdir(mode=0o700)
        os.chown(store, NOBODY, NOBODY)
    else:
        store = Path("/")
    with pytest.raises(TrustError, match="belongs to user"):
        supply(store)
    assert not (store / "lock").exists()


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Trouble with the folder itself is told with its path, not as a traceback."""
    (tmp_path / "trust").write_text("")
    with pytest.raises(TrustError, match=f"{tmp_path / 'trust'} cannot be used: File exists"):
        supply(tmp_path / "trust")


@pytest.mark.parametrize("content", [b"", b"\x00\xff noise", b"-----BEGIN CERTIFICATE-----\nAA"])
@pytest.mark.parametrize("place", ["ca.crt", "tls.crt", "tls.key"])
def test_a_spoilt_file_is_named_and_the_advice_mends_it(
    tmp_path: Path, place: str, content: bytes
) -> None:
    """What meshml did not write is never used; the folder that is to be removed stands there."""
    store = tmp_path / "trust"
    supply(store)
    spoilt = next(store.rglob(place))
    spoilt.write_bytes(content)
    with pytest.raises(TrustError, match=re.escape(str(spoilt))) as caught:
        supply(store)
    assert str(spoilt.parent) in caught.value.advice
    spoilt.parent.rename(tmp_path / "removed")
    chain = supply(store).certificate_chain
    assert b"CERTIFICATE" in chain.read_bytes()


def test_a_spoilt_authority_key_stops_the_next_issue_only(tmp_path: Path) -> None:
    """Identities that are fresh need no authority's key; a new one does."""
    supply(tmp_path / "trust")
    key = next((tmp_path / "trust").rglob("ca.key"))
    key.unlink()
    key.symlink_to(key)
    supply(tmp_path / "trust")
    with pytest.raises(TrustError, match=f"{key} cannot be read: Too many levels"):
        supply(tmp_path / "trust", "scoring")


def test_a_key_of_another_identity_is_refused(tmp_path: Path) -> None:
    """A certificate with someone else's key would fail in every handshake."""
    labels, scoring = supply(tmp_path / "trust"), supply(tmp_path / "trust", "scoring")
    labels.private_key.resolve().write_bytes(scoring.private_key.read_bytes())
    with pytest.raises(TrustError, match="does not belong to the certificate beside it"):
        supply(tmp_path / "trust")


def test_a_lock_that_is_held_too_long_is_named(tmp_path: Path) -> None:
    """A process that hangs while it holds the lock stops no other for ever."""
    supply(tmp_path / "trust")
    with (tmp_path / "trust" / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(TrustError, match=r"lock .* was held for 0\.1 s"),
            locked(tmp_path / "trust", timeout_s=0.1),
        ):
            pytest.fail("two holders of one lock")
    supply(tmp_path / "trust")
