"""Who may speak in the mesh, and until when: identities, the authority behind them, their store.

In go a folder, names and a time; out come paths of certificates and keys, and facts about them.
Private keys stay in their files: no value that leaves this room holds one.
"""

from meshml_dbx.trust.authority import spiffe_id
from meshml_dbx.trust.certificate import CertificateFacts, check_files
from meshml_dbx.trust.identity import IdentityFiles, describe, supply_authority, supply_identity

__all__ = [
    "CertificateFacts",
    "IdentityFiles",
    "check_files",
    "describe",
    "spiffe_id",
    "supply_authority",
    "supply_identity",
]
