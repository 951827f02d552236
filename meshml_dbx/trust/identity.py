"""Identities of a mesh, supplied from the trust store: issued on first use, then reused.

In go the store's folder, names and a time; out come paths that stay the same when their content
is renewed, so a running Envoy that watches them takes the new certificate up by itself.

    <store>/lock
    <store>/<mesh>/authority.crt                      whom to believe: every authority that lives
    <store>/<mesh>/authorities/<since>-<serial>/      ca.crt, ca.key
    <store>/<mesh>/identities/<name>/                 tls.crt, tls.key -> ..data -> ..<version>
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshml_dbx.errors import TrustError
from meshml_dbx.trust.authority import (
    Credential,
    choose_issuer,
    is_fresh,
    is_issued_by,
    issue_identity,
    make_authority,
    needs_authority,
    renew_after,
    spiffe_id,
)
from meshml_dbx.trust.certificate import (
    CertificateFacts,
    facts_of,
    public_bytes,
    read_certificates,
    read_private_key,
    validity,
)
from meshml_dbx.trust.store import (
    add_folder,
    locked,
    make_private_folder,
    publish_version,
    replace_file,
    require_private,
    safe_folder_name,
)

_AUTHORITIES, _IDENTITIES, _BUNDLE = "authorities", "identities", "authority.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFiles:
    """Where an identity's files lie, who it is, and when to ask for it again.

    >>> from datetime import UTC
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as state:
    ...     files = supply_identity(
    ...         Path(state) / "trust", mesh_name="ml", name="labels-v2", now=datetime.now(UTC))
    >>> files.spiffe_id, files.private_key.name
    ('spiffe://ml/labels-v2', 'tls.key')
    """

    spiffe_id: str
    certificate_chain: Path
    private_key: Path
    authority: Path
    renew_after: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authority:
    folder: Path
    certificate: x509.Certificate


def supply_identity(store: Path, *, mesh_name: str, name: str, now: datetime) -> IdentityFiles:
    """The files of identity ``name``, issued when there is none with a third of its life left.

    Safe to call from many processes at once; from ``renew_after`` on, a call renews it in place.

    Raises:
        TrustError: the store cannot be used, or holds something that was not written by meshml.
    """
    uri = spiffe_id(mesh_name, name)
    with locked(store):
        mesh_folder = make_private_folder(store / safe_folder_name(mesh_name))
        authorities = _supply_authorities(mesh_folder, mesh_name, now)
        identities = make_private_folder(mesh_folder / _IDENTITIES)
        folder = make_private_folder(identities / safe_folder_name(name))
        current = _read_identity(folder)
        if current is None or not _is_usable(current, uri, authorities, now):
            issuer = _open_issuer(authorities, now)
            fresh = issue_identity(issuer, mesh_name=mesh_name, name=name, now=now)
            files = {"tls.crt": _pem(fresh.certificate), "tls.key": _key_pem(fresh)}
            publish_version(folder, f"{fresh.certificate.serial_number:x}", files)
            current = fresh.certificate
    return _identity_files(mesh_folder, folder, current, uri)


def supply_authority(store: Path, *, mesh_name: str, now: datetime) -> Path:
    """The file of the mesh's authorities, for a side that only needs to know whom to believe.

    Raises:
        TrustError: the store cannot be used, or holds something that was not written by meshml.
    """
    with locked(store):
        mesh_folder = make_private_folder(store / safe_folder_name(mesh_name))
        _supply_authorities(mesh_folder, mesh_name, now)
    return (mesh_folder / _BUNDLE).absolute()


def describe(store: Path, mesh_name: str) -> tuple[CertificateFacts, ...]:
    """What the store holds for a mesh: its authorities, oldest first, then its identities.

    Raises:
        TrustError: the store is not private, or a certificate in it cannot be read.
    """
    if not store.is_dir():
        return ()
    require_private(store)
    mesh_folder = store / safe_folder_name(mesh_name)
    authorities = [
        facts_of(one.certificate, path=one.folder / "ca.crt")
        for one in _read_authorities(mesh_folder)
    ]
    identities = [
        facts_of(read_certificates(path, advice=_identity_advice(path.parent))[0], path=path)
        for path in sorted((mesh_folder / _IDENTITIES).glob("*/tls.crt"))
    ]
    return (*authorities, *identities)


def _supply_authorities(mesh_folder: Path, mesh_name: str, now: datetime) -> tuple[_Authority, ...]:
    """The authorities that live, one more made when it is due, all of them published."""
    known = _read_authorities(mesh_folder)
    living = tuple(one for one in known if now < validity(one.certificate)[1])
    if needs_authority([one.certificate for one in living], now=now):
        living = (*living, _add_authority(mesh_folder, mesh_name, now))
    bundle = b"".join(_pem(one.certificate) for one in living)
    replace_file(mesh_folder / _BUNDLE, bundle)
    return living


def _read_authorities(mesh_folder: Path) -> tuple[_Authority, ...]:
    folders = sorted((mesh_folder / _AUTHORITIES).glob("[!.]*"))
    return tuple(
        _Authority(
            folder=folder,
            certificate=read_certificates(folder / "ca.crt", advice=_authority_advice(folder))[0],
        )
        for folder in folders
    )


def _add_authority(mesh_folder: Path, mesh_name: str, now: datetime) -> _Authority:
    made = make_authority(mesh_name, now=now)
    since = f"{validity(made.certificate)[0]:%Y%m%dT%H%M%SZ}"
    folders = make_private_folder(mesh_folder / _AUTHORITIES)
    folder = folders / f"{since}-{made.certificate.serial_number:x}"
    add_folder(folder, {"ca.crt": _pem(made.certificate), "ca.key": _key_pem(made)})
    return _Authority(folder=folder, certificate=made.certificate)


def _open_issuer(authorities: Sequence[_Authority], now: datetime) -> Credential:
    chosen = choose_issuer([one.certificate for one in authorities], now=now)
    authority = next(one for one in authorities if one.certificate == chosen)
    advice = _authority_advice(authority.folder)
    key = _read_own_key(authority.certificate, authority.folder / "ca.key", advice=advice)
    return Credential(certificate=authority.certificate, private_key=key)


def _read_identity(folder: Path) -> x509.Certificate | None:
    """The identity that the folder holds, or None where no whole one was ever published."""
    chain, key = folder / "tls.crt", folder / "tls.key"
    if not (chain.exists() and key.exists()):
        return None
    advice = _identity_advice(folder)
    certificate = read_certificates(chain, advice=advice)[0]
    _read_own_key(certificate, key, advice=advice)
    return certificate


def _is_usable(
    certificate: x509.Certificate, uri: str, authorities: Sequence[_Authority], now: datetime
) -> bool:
    names = facts_of(certificate, path=Path()).subject_alternative_names
    known = any(is_issued_by(certificate, one.certificate) for one in authorities)
    return known and names == (uri,) and is_fresh(certificate, now=now)


def _read_own_key(
    certificate: x509.Certificate, path: Path, *, advice: str
) -> ec.EllipticCurvePrivateKey:
    key = read_private_key(path, advice=advice)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrustError(f"the private key {path} was not written by meshml", advice=advice)
    if public_bytes(key.public_key()) != public_bytes(certificate.public_key()):
        message = f"the private key {path} does not belong to the certificate beside it"
        raise TrustError(message, advice=advice)
    return key


def _identity_files(
    mesh_folder: Path, folder: Path, certificate: x509.Certificate, uri: str
) -> IdentityFiles:
    return IdentityFiles(
        spiffe_id=uri,
        certificate_chain=(folder / "tls.crt").absolute(),
        private_key=(folder / "tls.key").absolute(),
        authority=(mesh_folder / _BUNDLE).absolute(),
        renew_after=renew_after(certificate),
        not_after=validity(certificate)[1],
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(credential: Credential) -> bytes:
    return credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _authority_advice(folder: Path) -> str:
    return f"remove {folder}: a new authority and new identities are then made on the next start"


def _identity_advice(folder: Path) -> str:
    return f"remove {folder}: the identity is then issued anew on the next start"
