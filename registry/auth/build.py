"""From settings to the access of a registry: open, by its own tokens, or by another issuer's."""

from collections.abc import Callable, Iterator
from pathlib import Path

from registry.auth import oidc
from registry.auth.access import Access, OpenAccess
from registry.auth.certificates import CertificateMap
from registry.auth.challenge import Challenger
from registry.auth.external import ExternalKeys
from registry.auth.guard import (
    BearerTokens,
    Deciders,
    LocalAccess,
    TokenAccess,
    external_caller,
    local_caller,
)
from registry.auth.htpasswd import Htpasswd
from registry.auth.keys import KeyRing
from registry.auth.logins import Logins
from registry.auth.token_service import Terms, TokenService
from registry.auth.tokens import Expected, Verifier
from registry.offload import Offload
from registry.settings import Settings
from storage.database import Database


def build(
    settings: Settings, database: Database, offload: Offload, deciders: Deciders | None
) -> tuple[Access, TokenService | None]:
    """Return who decides, and who makes tokens if we do. `auth = local` needs the deciders.

    Raises KeyUnusable or OSError for an issuer's files that cannot be used.
    """
    match settings.auth:
        case "local":
            assert deciders is not None
            return _local(settings, database, offload, deciders)
        case "external":
            return _external(settings), None
        case "open":
            return OpenAccess(settings), None


def file_problems(settings: Settings) -> Iterator[str]:
    """Say of each file of the settings that cannot be used why not."""
    readers: list[tuple[str, Path | None, Callable[[Path], object]]] = []
    if settings.auth == "local":
        readers += [
            ("htpasswd", settings.htpasswd, Htpasswd),
            ("oidc_providers", settings.oidc_providers, oidc.read),
            ("client_names", settings.client_names, CertificateMap.read),
        ]
    if settings.auth == "external":
        readers += [
            ("issuer_jwks", settings.issuer_jwks, lambda path: ExternalKeys(path, None)),
            ("issuer_certificates", settings.issuer_certificates, lambda path: ExternalKeys(None, path)),
        ]
    for name, path, read in readers:
        try:
            if path is not None:
                read(path)
        except (ValueError, OSError) as error:
            yield f"{name} = {path} cannot be used: {error}"


def _local(
    settings: Settings, database: Database, offload: Offload, deciders: Deciders
) -> tuple[Access, TokenService]:
    terms = Terms(
        issuer=settings.public_url,
        service=settings.public_service,
        token_seconds=settings.token_seconds,
        refresh_seconds=settings.refresh_seconds,
    )
    keys = KeyRing(database, offload, settings.token_algorithm, settings.token_kid)
    logins = Logins(deciders.identities)
    verifier = Verifier(keys, Expected(terms.issuer, terms.service, terms.token_seconds))
    tokens = BearerTokens(verifier, keys, local_caller(deciders))
    challenger = Challenger(f"{terms.issuer}/token", terms.service)
    access = LocalAccess(settings, challenger, tokens, deciders, logins)
    return access, TokenService(terms, keys, deciders, logins, offload)


def _external(settings: Settings) -> Access:
    keys = ExternalKeys(settings.issuer_jwks, settings.issuer_certificates)
    expected = Expected(settings.issuer_name, settings.public_service, settings.issuer_token_seconds)
    verifier = Verifier(keys, expected, by_chain=keys.by_chain if settings.issuer_x5c else None)
    tokens = BearerTokens(verifier, keys, external_caller)
    return TokenAccess(settings, Challenger(settings.issuer_realm, settings.public_service), tokens)
