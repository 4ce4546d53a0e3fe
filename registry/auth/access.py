"""The seam between the API and whoever decides about it: a caller, an action, a repository."""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, Self

from storage.oci.errors import Denied
from storage.oci.names import RepositoryName

if TYPE_CHECKING:  # settings read the policy's rules, which know actions and principals
    from registry.settings import Settings


class Action(Enum):
    """What may be done to a repository.

    A route needs pull, push or delete. What a tag's move needs is decided in the transaction that moves it
    (AUTH-18). Source: distribution's docs/spec/auth/scope.md for the first three.
    """

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    TAG_CREATE = "tag-create"
    TAG_OVERWRITE = "tag-overwrite"
    ADMIN = "admin"


_TAG_ACTIONS = frozenset({Action.TAG_CREATE, Action.TAG_OVERWRITE})


def permits(granted: Collection[Action], action: Action) -> bool:
    """Say whether granted actions allow one: push moves any tag, and moving tags needs uploads."""
    if action in granted:
        return True
    if action in _TAG_ACTIONS:
        return Action.PUSH in granted
    return action is Action.PUSH and not _TAG_ACTIONS.isdisjoint(granted)


def expand(granted: Collection[Action]) -> frozenset[Action]:
    """Write out what push means, so that grants can be cut with one another."""
    return frozenset(granted) | (_TAG_ACTIONS if Action.PUSH in granted else frozenset())


class Kind(Enum):
    """What sort of principal: it tells which rules can mean it."""

    ANONYMOUS = "anonymous"
    USER = "user"
    ROBOT = "robot"
    OIDC = "oidc"
    CERTIFICATE = "certificate"
    EXTERNAL = "external"


_KINDS = {"robot": Kind.ROBOT, "oidc": Kind.OIDC, "cert": Kind.CERTIFICATE}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for.

    `name` is its text in rows and logs: `alice`, `robot:ci`, `oidc:github:…`, `cert:…`, an external `sub`;
    empty is anonymous. `claims` are what an OIDC provider or a certificate says of it.
    """

    name: str
    kind: Kind = Kind.USER
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def named(cls, name: str) -> Self:
        """Read a principal's text again; its groups and claims are not in it."""
        if not name:
            return cls("", Kind.ANONYMOUS)
        prefix, colon, _ = name.partition(":")
        return cls(name, _KINDS.get(prefix, Kind.USER) if colon else Kind.USER)


ANONYMOUS = Principal("", Kind.ANONYMOUS)


class Rights(Protocol):
    """What a caller may do, for the time of one request."""

    def may(self, action: Action, name: RepositoryName) -> bool: ...

    def may_list(self) -> bool:
        """Say whether the catalog answers at all."""
        ...

    def shows(self, name: RepositoryName) -> bool:
        """Say whether the catalog shows a repository."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal with its rights. `is_admin` opens the admin API, and nothing under /v2/."""

    principal: Principal
    rights: Rights
    is_admin: bool = False
    # A token is exchanged for a better one (401); who gave a password already is refused (403).
    has_token: bool = False


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate of a TLS client, verified against the configured authorities.

    Servers give it as `scope["extensions"]["tls"]["client_cert_chain"]`, whose first item is this PEM.
    Source: ASGI specification, "TLS Extension".
    """

    pem: str


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows of its sender. Header names are lower case; `client` is the address.

    `action`, `name` and `source` are what `require` will be asked: a wrong token's challenge names it.
    """

    headers: Mapping[str, str]
    client: str = "-"
    certificate: ClientCertificate | None = None
    action: Action | None = None
    name: RepositoryName | None = None
    source: RepositoryName | None = None


class Access(Protocol):
    """Decides. Every request asks before its body is read."""

    async def authenticate(self, presented: Presented) -> Caller:
        """Name who is asking; a request without credentials is anonymous.

        Raises Unauthorized with a challenge for credentials that are wrong, TooManyRequests.
        """
        ...

    def require(
        self,
        caller: Caller,
        action: Action | None,
        name: RepositoryName | None,
        source: RepositoryName | None = None,
    ) -> None:
        """Raise Unauthorized (with a challenge) or Denied unless the caller may do this.

        `action` None is a ping: anybody who is somebody. `name` None is the catalog. `source` is where a
        blob is to be mounted from: the challenge asks for it too, nothing else.
        """
        ...

    def may(self, caller: Caller, action: Action, name: RepositoryName) -> bool:
        """Say the same without raising, for mounts and whatever else is decided later."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision of the policy; `text` names the rule that made it."""

    allowed: bool
    text: str


class Policy(Protocol):
    """The rules: who may do what where. Nobody may do anything that no rule allows."""

    def actions(self, principal: Principal, name: RepositoryName) -> frozenset[Action]:
        """Return what the rules grant; to be asked with `permits`."""
        ...

    def explain(self, principal: Principal, action: Action, name: RepositoryName) -> Explanation: ...


class Limit(Protocol):
    """One line of a scoped credential: it grants nothing, the policy's grant is cut down to it."""

    def actions(self, name: RepositoryName) -> frozenset[Action]: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a login showed to be there. `limits` None is the whole of the principal's rights.

    `handle` lets `Identities.renew` find the same credential again (a user, one token of a robot); an empty
    one gets no refresh token.
    """

    principal: Principal
    limits: tuple[Limit, ...] | None = None
    is_admin: bool = False
    handle: str = ""


class Identities(Protocol):
    """Users, robots and their secrets."""

    async def login(self, username: str, password: str, client: str) -> Identity:
        """Check a password, personal token or ID token. Raises Unauthorized, TooManyRequests."""
        ...

    async def exchange(self, id_token: str, client: str) -> Identity:
        """Check an ID token of a CI system, good for one exchange. Raises Unauthorized, TooManyRequests."""
        ...

    async def renew(self, handle: str, since: float) -> Identity:
        """Return what the credential behind a refresh token of time `since` is worth now.

        Raises Unauthorized when it is disabled, revoked, expired or gone, or its password is newer.
        """
        ...

    async def version(self) -> Hashable:
        """Return what is another value whenever an earlier answer may no longer hold. Cheap."""
        ...


class Certificates(Protocol):
    """The map from client certificates to principals."""

    def principal(self, certificate: ClientCertificate) -> Principal | None:
        """Return whom a certificate means; None leaves its bearer anonymous."""
        ...


class _OpenRights:
    def __init__(self, settings: "Settings") -> None:
        self._settings = settings

    def may(self, action: Action, name: RepositoryName) -> bool:
        return action is Action.PULL or not self._settings.read_only

    def may_list(self) -> bool:
        return True

    def shows(self, name: RepositoryName) -> bool:
        return True


class OpenAccess:
    """Everybody may do everything, or only pull: for a loopback listener or behind other walls."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._caller = Caller(ANONYMOUS, _OpenRights(settings))

    async def authenticate(self, presented: Presented) -> Caller:
        return self._caller

    def require(
        self,
        caller: Caller,
        action: Action | None,
        name: RepositoryName | None,
        source: RepositoryName | None = None,
    ) -> None:
        if self._settings.read_only and action not in (None, Action.PULL):
            raise Denied("this registry is read-only")

    def may(self, caller: Caller, action: Action, name: RepositoryName) -> bool:
        return caller.rights.may(action, name)
