"""Certificates and TLS as App Mesh declares them: what an end shows, and whom it believes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from meshml_dbx.mesh.limits import Limit, Port, SecretName, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class SdsReference:
    """An identity, or an authority, that meshml supplies: a name in the trust store."""

    secret_name: SecretName


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCertificate:
    """A certificate chain and key of the user's own, as paths relative to the mesh file."""

    certificate_chain: Text
    private_key: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmCertificate:
    """A certificate that AWS Certificate Manager holds; no Envoy of our own can fetch it."""

    certificate_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTrust:
    """Authorities of the user's own, as a path relative to the mesh file."""

    certificate_chain: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmTrust:
    """Private authorities of AWS by their ARNs."""

    certificate_authority_arns: Annotated[tuple[str, ...], Limit(1, 3)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a side of a connection shows; App Mesh takes acm at listeners alone."""

    exactly_one: ClassVar = ("acm", "sds", "file")

    acm: AcmCertificate | None = None
    sds: SdsReference | None = None
    file: FileCertificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom a side of a connection believes; App Mesh takes acm at callers alone."""

    exactly_one: ClassVar = ("acm", "sds", "file")

    acm: AcmTrust | None = None
    sds: SdsReference | None = None
    file: FileTrust | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameMatch:
    """The subject alternative names that are accepted, each in full."""

    exact: tuple[Annotated[str, Limit(1, 254)], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectAlternativeNames:
    """The names that a peer's certificate must carry one of."""

    match: NameMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How a peer's certificate is checked."""

    trust: Trust
    subject_alternative_names: SubjectAlternativeNames | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """The TLS of a listener; with a validation it is mutual."""

    mode: Literal["STRICT", "PERMISSIVE", "DISABLED"]
    certificate: Certificate
    validation: Validation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """The TLS of calls to a backend."""

    enforce: bool = True
    ports: tuple[Port, ...] = ()
    certificate: Certificate | None = None
    validation: Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """How a backend is called."""

    tls: ClientTls | None = None
