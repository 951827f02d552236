"""A mesh's own certificate authority: what it issues, for how long, and when it is due.

Everything here is a pure function of names, certificates and a time. An authority is published
long before it issues: its successor joins the bundle when a third of its life is left, and takes
over only when the old one could no longer outlive what it issues. So every peer knows the new
authority before it meets it, and no identity outlives the authority that issued it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshml_dbx.errors import TrustError
from meshml_dbx.mesh import names
from meshml_dbx.trust.certificate import validity

AUTHORITY_LIFE = timedelta(days=365)
IDENTITY_LIFE = timedelta(days=7)

# Peers' clocks differ a little: what is issued now is already valid for one that is behind.
_IDENTITY_BACKDATE = timedelta(minutes=5)
_AUTHORITY_BACKDATE = timedelta(hours=1)

_COMMON_NAME_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate with its private key, which its repr leaves out.

    >>> from datetime import UTC
    >>> "private_key" in repr(make_authority("ml", now=datetime(2026, 11, 1, tzinfo=UTC)))
    False
    """

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)


def spiffe_id(mesh_name: str, name: str) -> str:
    """The name under which peers know an identity, odd characters percent-encoded.

    >>> spiffe_id("ml", "labels-v2"), spiffe_id("ml", "../a b")
    ('spiffe://ml/labels-v2', 'spiffe://ml/..%2Fa%20b')
    """
    if not mesh_name or not name:
        message = f"an identity needs the names of its mesh and of itself: {mesh_name!r}, {name!r}"
        raise TrustError(message, advice="give meshName and secretName in the mesh file")
    return names.spiffe_id(mesh_name, name)


def make_authority(mesh_name: str, *, now: datetime) -> Credential:
    """A new authority for a mesh, which may issue identities but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name(mesh_name, suffix=" local authority")
    builder = (
        _builder(key.public_key(), subject=name, issuer=name)
        .not_valid_before(now - _AUTHORITY_BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(_issued_by(key.public_key()), critical=False)
    )
    return Credential(certificate=builder.sign(key, hashes.SHA256()), private_key=key)


def issue_identity(
    authority: Credential, *, mesh_name: str, name: str, now: datetime
) -> Credential:
    """A new identity ``spiffe://<mesh>/<name>``, for either side of a connection."""
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    uri = x509.UniformResourceIdentifier(spiffe_id(mesh_name, name))
    issuer = authority.certificate.subject
    builder = (
        _builder(key.public_key(), subject=_common_name(name), issuer=issuer)
        .not_valid_before(now - _IDENTITY_BACKDATE)
        .not_valid_after(now + IDENTITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(_issued_by(authority.private_key.public_key()), critical=False)
    )
    signed = builder.sign(authority.private_key, hashes.SHA256())
    return Credential(certificate=signed, private_key=key)


def renew_after(certificate: x509.Certificate) -> datetime:
    """The moment at which a third of the certificate's life is left."""
    not_before, not_after = validity(certificate)
    return not_after - (not_after - not_before) / 3


def is_fresh(certificate: x509.Certificate, *, now: datetime) -> bool:
    """Whether the certificate is valid and more than a third of its life is left."""
    return validity(certificate)[0] <= now < renew_after(certificate)


def choose_issuer(
    authorities: Sequence[x509.Certificate], *, now: datetime
) -> x509.Certificate | None:
    """The oldest authority that outlives what it issues now: the one that all peers know."""
    able = [
        authority
        for authority in authorities
        if validity(authority)[0] <= now and now + IDENTITY_LIFE <= validity(authority)[1]
    ]
    return min(able, key=validity, default=None)


def needs_authority(authorities: Sequence[x509.Certificate], *, now: datetime) -> bool:
    """Whether a mesh with these authorities is due for one more."""
    return choose_issuer(authorities, now=now) is None or all(
        renew_after(authority) <= now for authority in authorities
    )


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    public_key: ec.EllipticCurvePublicKey, *, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _issued_by(public_key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str, *, suffix: str = "") -> x509.Name:
    """X.509 allows 64 bytes of it; the whole name stands in the SPIFFE id."""
    printable = "".join(char if char.isprintable() else "?" for char in text)
    room = _COMMON_NAME_BYTES - len(suffix)
    cut = printable.encode()[:room].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cut + suffix)])
