"""The people and rules of a registry's own: its database, its configuration and the files that this names."""

import sys

from registry.auth import accounts, oidc
from registry.auth.certificates import CertificateMap
from registry.auth.guard import Deciders
from registry.auth.htpasswd import Htpasswd
from registry.auth.identities import LocalIdentities
from registry.auth.oidc import Federation
from registry.auth.passwords import Passwords
from registry.auth.policy import RulePolicy
from registry.offload import Offload
from registry.settings import Settings
from storage.database import Database


def local_deciders(settings: Settings, database: Database, offload: Offload) -> Deciders:
    """Open them; at the very first start make the first administrator.

    Raises HtpasswdInvalid, ProviderInvalid, CertificateMapInvalid or OSError for a file that cannot be used.
    """
    htpasswd = Htpasswd(settings.htpasswd) if settings.htpasswd else None
    federation = Federation(oidc.read(settings.oidc_providers), offload) if settings.oidc_providers else None
    certificates = CertificateMap.read(settings.client_names) if settings.client_names else None
    passwords = Passwords()
    _ensure_admin(database, passwords)
    identities = LocalIdentities(offload, passwords, htpasswd=htpasswd, federation=federation)
    return Deciders(identities, RulePolicy(settings, database), certificates)


def _ensure_admin(database: Database, passwords: Passwords) -> None:
    made = accounts.ensure_admin(database, passwords)
    if made is not None:
        name, password = made
        # To the terminal and to no log: it is never shown again.
        sys.stderr.write(
            f"The first administrator is {name!r}, with the password {password}\n"
            f"It is shown this once; `cargohold user reset {name}` makes another.\n"
        )
        sys.stderr.flush()
