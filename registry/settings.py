"""Every setting of `cargohold serve`: flag, environment variable and TOML key in one model."""

import ipaddress
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from registry.auth.configured import ImmutableEntry, PolicyEntry, QuotaEntry
from registry.metadata.limits import Limits

MIB = 1024 * 1024
DAY = 24 * 60 * 60.0

# What SIGHUP may change: everything that is asked for anew at each request or collection.
RELOADABLE = frozenset(
    {
        "delete_enabled",
        "sparse_index",
        "read_only",
        "chunk_min_length",
        "referrers_page",
        "list_page",
        "free_space_floor",
        "lease_seconds",
        "stray_seconds",
        "upload_seconds",
        "log_level",
        "policy",
        "anonymous_pull",
        "immutable",
        "quota",
    }
)


_is_prefix = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+").fullmatch
_is_http_url = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:(?:/[A-Za-z0-9._~%-]+)*)"
).fullmatch


class SettingsUnreadable(ValueError):
    """A file or variable that is not even in its form; the message names it."""


class Settings(BaseSettings):
    """What an operator can choose. docs/configuration.md has the same list with examples.

    A flag wins over the environment, the environment over the file, the file over the default.
    """

    model_config = SettingsConfigDict(
        env_prefix="CARGOHOLD_", extra="forbid", frozen=True, validate_default=True
    )

    data: Path = Field(default=Path("data"), description="directory of blobs, uploads and the database")
    host: str = Field(default="127.0.0.1", description="address to listen on, IPv4 or IPv6")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=5000, description="port to listen on; 0 takes a free one"
    )
    unix_socket: Path | None = Field(
        default=None, description="listen on this unix socket instead of host and port"
    )
    workers: PositiveInt = Field(default=1, description="processes that share the port and the store")
    path_prefix: str = Field(
        default="", description="path under which a reverse proxy shows the registry, as in /registry"
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="addresses or networks whose X-Forwarded-For names the client in logs and limits",
    )
    allow_plain_http: bool = Field(
        default=False, description="speak plain HTTP beyond loopback, as behind a proxy that speaks TLS"
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate and its chain: speak TLS"
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    tls_self_signed: bool = Field(
        default=False, description="speak TLS with a certificate made in the data directory, for a first try"
    )
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file of the authority whose client certificates are believed"
    )
    tls_client_required: bool = Field(
        default=False, description="refuse a connection without a client certificate"
    )
    hsts_seconds: NonNegativeInt = Field(
        default=31_536_000, description="how long browsers remember to come over TLS; 0: not told"
    )
    metrics_listen: str | None = Field(
        default=None,
        description="HOST:PORT of a second listener for /metrics and health; else they share the first",
    )
    allow_anonymous_push: bool = Field(
        default=False, description="let anyone who reaches a non-loopback address push and delete"
    )

    auth: Literal["open", "local", "external"] = Field(
        default="open",
        description="open: everybody may do everything; local: users and rules of this registry; "
        "external: tokens of another issuer",
    )
    external_url: str = Field(
        default="",
        description="URL under which clients reach the registry, as in https://registry.example; "
        "by default the loopback address it listens on",
    )
    service: str = Field(
        default="", description="what tokens are made for; by default the host of external_url"
    )
    token_seconds: Annotated[int, Field(ge=60, le=3600)] = Field(
        default=300, description="how long an access token is good"
    )
    refresh_seconds: PositiveFloat = Field(
        default=90 * DAY, description="a login that was not used for so long ends"
    )
    token_algorithm: Literal["ES256", "EdDSA"] = Field(
        default="ES256", description="how access tokens are signed: ES256, or EdDSA"
    )
    token_kid: Literal["thumbprint", "libtrust"] = Field(
        default="thumbprint",
        description="how tokens name their key: thumbprint, or libtrust for distribution before 3",
    )
    htpasswd: Path | None = Field(
        default=None,
        description="auth local: file of more users, as htpasswd -B writes it, followed as it changes",
    )
    oidc_providers: Path | None = Field(
        default=None, description="auth local: TOML file of the CI systems whose ID tokens are taken"
    )
    client_names: Path | None = Field(
        default=None, description="auth local: TOML file of whom client certificates mean"
    )
    issuer_realm: str = Field(default="", description="auth external: URL of the issuer's token endpoint")
    issuer_name: str = Field(default="", description="auth external: iss of its tokens")
    issuer_jwks: Path | None = Field(
        default=None, description="auth external: JWKS file of its keys, read again when it changes"
    )
    issuer_certificates: Path | None = Field(
        default=None, description="auth external: PEM bundle of its certificates, read again when it changes"
    )
    issuer_x5c: bool = Field(
        default=False, description="take tokens whose x5c chain leads to issuer_certificates"
    )
    issuer_token_seconds: PositiveInt = Field(
        default=3600, description="tokens of an external issuer that live longer are refused"
    )
    anonymous_pull: bool = Field(default=False, description="let everybody pull everything")
    policy: tuple[PolicyEntry, ...] = Field(
        default=(), description="rules that allow; each has who, repository and allow"
    )
    immutable: tuple[ImmutableEntry, ...] = Field(
        default=(), description="tags that never move; each has repository and tags"
    )
    quota: tuple[QuotaEntry, ...] = Field(
        default=(), description="what one repository may hold; each has repository, and bytes or tags"
    )

    delete_enabled: bool = Field(default=True, description="allow DELETE of tags, manifests and blobs")
    sparse_index: bool = Field(default=False, description="accept an index whose children are not all here")
    read_only: bool = Field(default=False, description="refuse every push and delete")
    chunk_min_length: NonNegativeInt = Field(
        default=0, description="OCI-Chunk-Min-Length told to clients, bytes; 0: none"
    )
    referrers_page: PositiveInt = Field(default=1000, description="descriptors in one page of referrers")
    list_page: PositiveInt = Field(default=10_000, description="tags or repositories in one page at most")
    free_space_floor: NonNegativeInt = Field(
        default=256 * MIB, description="uploads are refused when the disk has fewer bytes left"
    )

    lease_seconds: NonNegativeFloat = Field(
        default=DAY,
        description="how long a blob without a manifest is kept after its upload, mount or last HEAD",
    )
    stray_seconds: PositiveFloat = Field(
        default=3600.0,
        description="bytes that a crash left without a row go after this; longer than any commit takes",
    )
    upload_seconds: PositiveFloat = Field(
        default=DAY, description="an upload without progress is dropped after this"
    )
    collect_every_seconds: NonNegativeFloat = Field(
        default=600.0, description="pause between collections; 0: never"
    )

    header_seconds: PositiveFloat = Field(
        default=10.0, description="a request's headers must be complete within this"
    )
    idle_seconds: PositiveFloat = Field(
        default=15.0, description="an idle keep-alive connection is closed after this"
    )
    body_floor_bytes_per_second: NonNegativeInt = Field(
        default=1024, description="slower bodies are cut, in or out"
    )
    body_floor_window_seconds: PositiveFloat = Field(
        default=60.0, description="over which the floor is measured"
    )
    max_connections: PositiveInt = Field(default=4096, description="open connections of one worker")
    max_connections_per_client: PositiveInt = Field(
        default=1024, description="of one client address and worker"
    )
    max_requests: PositiveInt = Field(
        default=512, description="requests one worker answers at once; more get a 503"
    )
    shutdown_seconds: PositiveFloat = Field(
        default=30.0, description="how long SIGTERM waits for running requests"
    )

    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="debug, info, warning, error"
    )
    access_log: bool = Field(default=True, description="one JSON line a request on stdout")
    audit_log: str = Field(
        default="stdout",
        description="who changed or was refused what: stdout, off or a file that grows and may be rotated",
    )

    @classmethod
    def load(cls, config: Path | None, flags: dict[str, Any]) -> Self:
        """Read flags over environment over file.

        Raises pydantic's ValidationError, naming the key; SettingsUnreadable; OSError for a missing file.
        """
        file = _read_toml(config) if config else {}
        environment = cls._environment()
        return cls.model_validate({**file, **environment, **flags})

    def adopt(self, newer: Self) -> tuple[list[str], list[str]]:
        """Take over what may change while serving; return the names that changed, and those that did not.

        The second list are settings that differ but need a restart.
        """
        changed = [name for name in type(self).model_fields if getattr(self, name) != getattr(newer, name)]
        taken = [name for name in changed if name in RELOADABLE]
        # The one place where settings change; every reader asks for them when it needs them.
        self.__dict__.update({name: getattr(newer, name) for name in taken})
        return taken, [name for name in changed if name not in taken]

    @classmethod
    def _environment(cls) -> dict[str, Any]:
        try:
            return EnvSettingsSource(cls)()
        except SettingsError as error:
            raise SettingsUnreadable(str(error)) from error

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.path_prefix and not _is_prefix(self.path_prefix):
            raise ValueError("path_prefix starts with a slash and does not end with one, as in /registry")
        if self.metrics_listen and not _is_address(self.metrics_listen):
            raise ValueError("metrics_listen is HOST:PORT, as in 127.0.0.1:9090")
        for proxy in self.trusted_proxies:
            ipaddress.ip_network(proxy, strict=False)  # its ValueError says what is wrong
        self._check_tls()
        self._check_auth()
        is_open = self.auth == "open" and not (self.allow_anonymous_push or self.read_only)
        if is_open and not (self.unix_socket or is_loopback(self.host)):
            raise ValueError(
                f"{self.host} can be reached from other machines and anyone there could push: "
                "listen on 127.0.0.1, set auth = local, or say --allow-anonymous-push or --read-only"
            )
        if not (self.unix_socket or is_loopback(self.host) or self.speaks_tls or self.allow_plain_http):
            raise ValueError(
                f"{self.host} can be reached from other machines, and plain HTTP shows them every password: "
                "give tls_certificate and tls_key, or say --tls-self-signed or --allow-plain-http"
            )
        return self

    @property
    def speaks_tls(self) -> bool:
        """Say whether the listener speaks TLS."""
        return self.tls_self_signed or self.tls_certificate is not None

    def _check_tls(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are given together")
        if self.tls_self_signed and self.tls_certificate:
            raise ValueError("tls_self_signed is for when there is no tls_certificate")
        if self.tls_client_ca and not self.speaks_tls:
            raise ValueError("tls_client_ca needs a listener that speaks TLS")
        if self.tls_client_required and self.tls_client_ca is None:
            raise ValueError("tls_client_required needs tls_client_ca, to know whose certificates count")
        if self.unix_socket and self.speaks_tls:
            raise ValueError("a unix_socket speaks plain HTTP: its peer is on this machine")

    def _check_auth(self) -> None:
        if self.external_url and not _is_http_url(self.external_url):
            raise ValueError("external_url is http(s)://HOST[:PORT][/PATH] without a slash at the end")
        if self.auth != "local" and (self.policy or self.anonymous_pull):
            raise ValueError("policy and anonymous_pull need auth = local: else nobody asks the rules")
        if self.auth == "local" and not self.public_url:
            raise ValueError("auth = local needs external_url, as in https://registry.example")
        if self.auth != "external":
            return
        if not _is_http_url(self.issuer_realm):
            raise ValueError("auth = external needs issuer_realm, the URL of the issuer's token endpoint")
        if not (self.issuer_name and self.public_service):
            raise ValueError("auth = external needs issuer_name and service")
        if self.issuer_x5c and not self.issuer_certificates:
            raise ValueError("issuer_x5c needs issuer_certificates to lead to")
        if not (self.issuer_jwks or self.issuer_certificates):
            raise ValueError("auth = external needs issuer_jwks or issuer_certificates")

    @property
    def limits(self) -> Limits:
        """Return what is limited here; the database may limit more."""
        return Limits(
            tuple(entry.pattern() for entry in self.immutable), tuple(entry.quota() for entry in self.quota)
        )

    @property
    def public_url(self) -> str:
        """Where clients reach the registry; empty when nothing says so. Never from a request (AUTH-28)."""
        if self.external_url or self.unix_socket or self.port == 0 or not is_loopback(self.host):
            return self.external_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.speaks_tls else "http"
        return f"{scheme}://{host}:{self.port}{self.path_prefix}"

    @property
    def public_service(self) -> str:
        """What tokens are made for, their `aud`."""
        return self.service or urlsplit(self.public_url).netloc


@dataclass(frozen=True, slots=True)
class Source:
    """Where settings were read, to read them again."""

    config: Path | None
    flags: dict[str, Any]

    def load(self) -> Settings:
        """Read again. Raises pydantic's ValidationError."""
        return Settings.load(self.config, self.flags)


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise SettingsUnreadable(f"{config} is not TOML: {error}") from error


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and re.fullmatch("[0-9]{1,5}", port) is not None and int(port) < 65536


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
