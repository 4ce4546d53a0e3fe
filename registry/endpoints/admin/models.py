"""What the admin API reads and writes. Unknown members are refused, and no type is guessed (AUTH-19)."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from registry.auth.accounts import IssuedSecret
from registry.metadata import robots, rules, signing_keys, users
from registry.metadata.api_tokens import ApiToken
from registry.metadata.refresh_tokens import RefreshToken

PAGE, MOST = 100, 1000
_INTEGER_LIMIT = 2**63 - 1

ActionName = Literal["pull", "push", "delete", "tag-create", "tag-overwrite"]
Text = Annotated[str, Field(max_length=500)]
Secret = Annotated[str, Field(min_length=8, max_length=1024)]
AccountName = Annotated[str, Field(min_length=1, max_length=128)]
RepositoryPattern = Annotated[str, Field(min_length=1, max_length=255)]


def _write_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Seconds since the epoch here, RFC 3339 on the wire.
Time = Annotated[
    float,
    PlainSerializer(_write_time, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Reads(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """The query of a request: texts, so that numbers are read from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Writes(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


def _whole(text: object) -> object:
    """Take digits only: int() reads more than that."""
    if isinstance(text, str) and not (text.isascii() and text.isdecimal()):
        raise ValueError("not a whole number")
    return text


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MOST)]


class Page(Query):
    """Which part of a list: up to `n` behind `last`."""

    n: Count = PAGE
    last: Annotated[str, Field(max_length=256)] = ""


class NumberedPage(Query):
    """Which part of a list of what has numbers."""

    n: Count = PAGE
    last: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=_INTEGER_LIMIT)] = 0


class Nothing(Reads):
    """An object without members: what could be sent from a form of any web page is no JSON."""


class NewUser(Reads):
    name: AccountName
    password: Secret | None = Field(default=None, description="One is made up when it is left out.")


class NewPassword(Reads):
    password: Secret | None = Field(default=None, description="One is made up when it is left out.")
    current: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="The password so far, to change one's own."
    )


class User(Writes):
    name: str
    is_admin: bool
    is_disabled: bool
    created_at: Time
    password_changed_at: Time
    last_login_at: Time | None

    @classmethod
    def of(cls, account: users.Account) -> Self:
        return cls(
            name=account.name,
            is_admin=account.is_admin,
            is_disabled=account.is_disabled,
            created_at=account.created_at,
            password_changed_at=account.password_changed_at,
            last_login_at=account.last_login_at,
        )


class Users(Writes):
    users: list[User]


class Password(Writes):
    name: str
    password: str | None = Field(description="The password that was made up, shown this once.")


class Group(Writes):
    name: str
    members: list[str]


class Groups(Writes):
    groups: list[str]


class NewGroup(Reads):
    name: AccountName


class NewRobot(Reads):
    name: AccountName
    description: Text = ""


class Robot(Writes):
    name: str
    principal: str = Field(description="What rules, logs and logins call it.")
    description: str
    created_by: str
    created_at: Time
    is_disabled: bool

    @classmethod
    def of(cls, robot: robots.Robot) -> Self:
        return cls(
            name=robot.name,
            principal=robot.principal,
            description=robot.description,
            created_by=robot.created_by,
            created_at=robot.created_at,
            is_disabled=robot.is_disabled,
        )


class Robots(Writes):
    robots: list[Robot]


class TokenLimit(Reads):
    repository: RepositoryPattern
    actions: Annotated[list[ActionName], Field(min_length=1, max_length=5)]


class NewToken(Reads):
    description: Text = ""
    limits: Annotated[list[TokenLimit], Field(min_length=1, max_length=50)] | None = Field(
        default=None, description="What it is good for; all that its owner may do when it is left out."
    )
    expires_in_seconds: Annotated[int, Field(ge=1, le=10 * 365 * 86400)] | None = Field(
        default=None, description="It does not expire when this is left out."
    )


class Limit(Writes):
    repository: str
    actions: list[str]


class Token(Writes):
    id: str
    owner: str = Field(description="A principal: alice, or robot:ci.")
    description: str
    limits: list[Limit] | None
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None

    @classmethod
    def of(cls, token: ApiToken) -> Self:
        is_robots = token.owner_kind == "robot"
        limits = token.limits
        return cls(
            id=token.id,
            owner=robots.principal_of(token.owner_name) if is_robots else token.owner_name,
            description=token.description,
            limits=None
            if limits is None
            else [Limit(repository=limit.repository, actions=list(limit.actions)) for limit in limits],
            created_at=token.created_at,
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
        )


class Tokens(Writes):
    tokens: list[Token]


class CreatedToken(Writes):
    token: Token
    secret: str = Field(description="The text to log in with, shown this once.")

    @classmethod
    def of(cls, issued: IssuedSecret) -> Self:
        return cls(token=Token.of(issued.token), secret=issued.text)


class Login(Writes):
    """A refresh token: what a client keeps after a login."""

    id: str
    principal: str
    service: str
    client_id: str
    created_at: Time
    expires_at: Time
    last_used_at: Time | None

    @classmethod
    def of(cls, token: RefreshToken) -> Self:
        return cls(
            id=token.id,
            principal=token.principal,
            service=token.service,
            client_id=token.client_id,
            created_at=token.created_at,
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
        )


class Logins(Writes):
    refresh_tokens: list[Login]


class NewRule(Reads):
    who: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="anonymous, authenticated, user:NAME, group:NAME, robot:NAME, cert:NAME, external:NAME "
        "or oidc:PROVIDER CLAIM=VALUE…"
    )
    repository: RepositoryPattern
    actions: Annotated[list[ActionName | Literal["admin"]], Field(min_length=1, max_length=6)]


class Rule(Writes):
    id: int
    who: str
    repository: str
    actions: list[str]
    created_by: str
    created_at: Time

    @classmethod
    def of(cls, rule: rules.StoredRule) -> Self:
        return cls(
            id=rule.id,
            who=rule.who,
            repository=rule.repository,
            actions=list(rule.actions),
            created_by=rule.created_by,
            created_at=rule.created_at,
        )


class Rules(Writes):
    rules: list[Rule]


class Created(Writes):
    id: int


class Question(Reads):
    principal: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Who would ask: alice, robot:ci, anonymous, cert:NAME, external:NAME or "
        "oidc:PROVIDER CLAIM=VALUE…"
    )
    action: ActionName | Literal["admin"]
    repository: Annotated[str, Field(min_length=1, max_length=255)]


class Explanation(Writes):
    is_allowed: bool
    text: str


class NewImmutableRule(Reads):
    repository: RepositoryPattern
    tags: Annotated[str, Field(min_length=1, max_length=128)] = Field(description="A pattern, as in v*.")


class ImmutableRule(Writes):
    id: int
    repository: str
    tags: str


class ImmutableRules(Writes):
    immutable_rules: list[ImmutableRule]


class NewQuota(Reads):
    repository: RepositoryPattern
    bytes: Annotated[int, Field(ge=0, le=_INTEGER_LIMIT)] | None = None
    tags: Annotated[int, Field(ge=0, le=_INTEGER_LIMIT)] | None = None


class OfRepository(Query):
    repository: RepositoryPattern


class Quota(Writes):
    repository: str
    bytes: int | None
    tags: int | None


class Quotas(Writes):
    quotas: list[Quota]


class Key(Writes):
    kid: str
    algorithm: str
    created_at: Time
    retires_at: Time | None

    @classmethod
    def of(cls, key: signing_keys.StoredKey) -> Self:
        return cls(kid=key.kid, algorithm=key.algorithm, created_at=key.created_at, retires_at=key.retires_at)


class Keys(Writes):
    keys: list[Key]


class RotatedKey(Writes):
    kid: str


class Caller(Writes):
    """Who is asking, as the registry sees them."""

    name: str
    kind: str
    is_admin: bool
    groups: list[str]
