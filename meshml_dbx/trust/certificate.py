"""Certificates and keys in PEM files: read them, say what they are, refuse what cannot work.

In go paths; out come ``CertificateFacts``, or a ``TrustError`` that names the file, what was found
in it and what to do. ``check_files`` is for the files that a user names in the mesh file.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from meshml_dbx.errors import TrustError

_OWN_FILE_ADVICE = "name a PEM file in the mesh file, or let meshml supply it: sds with secretName"
_PEM_START = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says of itself, without any key.

    >>> facts = CertificateFacts(
    ...     path=Path("tls.crt"), subject="CN=labels-v2", issuer="CN=ml local authority",
    ...     serial="2a", is_authority=False, subject_alternative_names=("spiffe://ml/labels-v2",),
    ...     not_before=datetime(2026, 11, 1, tzinfo=UTC),
    ...     not_after=datetime(2026, 11, 8, tzinfo=UTC))
    >>> facts.is_valid(datetime(2026, 11, 9, tzinfo=UTC))
    False
    """

    path: Path
    subject: str
    issuer: str
    serial: str
    subject_alternative_names: tuple[str, ...]
    is_authority: bool
    not_before: datetime
    not_after: datetime

    def is_valid(self, now: datetime) -> bool:
        """Whether a peer whose clock says ``now`` accepts the dates."""
        return self.not_before <= now <= self.not_after


def check_files(
    certificate_chain: Path, private_key: Path | None, authority: Path | None, *, now: datetime
) -> CertificateFacts:
    """The facts of the chain's own certificate, once each file given is found fit for use.

    The authority is whom this side believes, so it need not have issued the chain.

    Raises:
        TrustError: a file is missing, unreadable, not PEM or out of date, or the key is another's.
    """
    chain = read_certificates(certificate_chain, advice=_OWN_FILE_ADVICE)
    chain_facts = tuple(facts_of(one, path=certificate_chain) for one in chain)
    for facts in chain_facts:
        _require_valid(facts, now)
    if private_key is not None:
        key = read_private_key(private_key, advice=_OWN_FILE_ADVICE)
        _require_match(chain, certificate_chain, key, private_key)
    if authority is not None:
        _require_living_authority(authority, now)
    return chain_facts[0]


def facts_of(certificate: x509.Certificate, *, path: Path) -> CertificateFacts:
    """What ``certificate``, found at ``path``, says of itself."""
    try:
        not_before, not_after = validity(certificate)
        names = _subject_alternative_names(certificate)
        is_authority = _is_authority(certificate)
        subject, issuer = certificate.subject, certificate.issuer
    except (ValueError, x509.DuplicateExtension) as error:
        message = f"the certificate {path} cannot be understood: {error}"
        raise TrustError(message, advice="have it issued anew") from error
    return CertificateFacts(
        path=path,
        subject=subject.rfc4514_string(),
        issuer=issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        subject_alternative_names=names,
        is_authority=is_authority,
        not_before=not_before,
        not_after=not_after,
    )


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """The first and the last moment at which the certificate is valid, in UTC."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # cryptography 41, which some Databricks runtimes pin, knows only times without a zone.
    return (
        certificate.not_valid_before.replace(tzinfo=UTC),
        certificate.not_valid_after.replace(tzinfo=UTC),
    )


def read_certificates(path: Path, *, advice: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, in its order; ``advice`` is for a file that holds none."""
    content = _read(path, "certificate", advice)
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError as error:
        raise TrustError(_not_pem("certificate", path, content), advice=advice) from error


def read_private_key(path: Path, *, advice: str) -> PrivateKeyTypes:
    """The private key of a PEM file; ``advice`` is for a file that holds none."""
    content = _read(path, "private key", advice)
    try:
        return load_pem_private_key(content, password=None)
    except TypeError as error:
        message = f"the private key {path} is encrypted, and meshml has no passphrase for it"
        advice = f"decrypt it: openssl pkey -in {path} -out FILE"
        raise TrustError(message, advice=advice) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(_not_pem("private key", path, content), advice=advice) from error


def public_bytes(key: PublicKeyTypes) -> bytes:
    """A public key in the one form in which two can be compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path, kind: str, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TrustError(f"the {kind} {path} does not exist", advice=advice) from error
    except OSError as error:
        message = f"the {kind} {path} cannot be read: {error.strerror}"
        raise TrustError(message, advice=advice) from error


def _not_pem(kind: str, path: Path, content: bytes) -> str:
    if not content.strip():
        return f"the {kind} {path} is empty"
    if _PEM_START not in content:
        return f"the {kind} {path} is not PEM"
    return f"the {kind} {path} is PEM, but holds no {kind} that can be read"


def _require_valid(facts: CertificateFacts, now: datetime) -> None:
    if now > facts.not_after:
        message = (
            f"the certificate {facts.path} ({facts.subject}) expired on {_day(facts.not_after)}"
        )
        raise TrustError(f"{message}; it is {_day(now)}", advice="renew it")
    if now < facts.not_before:
        message = f"the certificate {facts.path} ({facts.subject}) is not valid before"
        advice = "wait until then, or set this machine's clock right"
        raise TrustError(f"{message} {_day(facts.not_before)}; it is {_day(now)}", advice=advice)


def _require_match(
    chain: tuple[x509.Certificate, ...], chain_path: Path, key: PrivateKeyTypes, key_path: Path
) -> None:
    try:
        public = public_bytes(key.public_key())
        matches = [public_bytes(one.public_key()) == public for one in chain]
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"the key of the certificate {chain_path} cannot be understood: {error}"
        raise TrustError(message, advice="have it issued anew, with an RSA or EC key") from error
    if matches[0]:
        return
    message = f"the private key {key_path} does not belong to the certificate {chain_path}"
    if any(matches):
        place = matches.index(True) + 1
        message = f"{message}, but to number {place} in that file"
        raise TrustError(message, advice=f"put certificate number {place} first in {chain_path}")
    raise TrustError(message, advice="name the two files that were issued together")


def _require_living_authority(path: Path, now: datetime) -> None:
    """Bundles carry expired authorities along, so one that lives is enough."""
    known = [facts_of(one, path=path) for one in read_certificates(path, advice=_OWN_FILE_ADVICE)]
    if not any(facts.is_valid(now) for facts in known):
        _require_valid(max(known, key=lambda facts: facts.not_after), now)


def _subject_alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(_name_text(name) for name in names)


def _name_text(name: x509.GeneralName) -> str:
    return name.value if isinstance(name.value, str) else str(name.value)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
