"""The rules of the configuration: `[[policy]]`, `[[immutable]]`, `[[quota]]`, checked as they are read."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from registry.auth.rules import Rule
from registry.metadata.immutable import ImmutableTags
from registry.metadata.quotas import Quota


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyEntry(_Entry):
    """One `[[policy]]`."""

    who: str
    repository: str
    allow: tuple[str, ...]

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        self.rule("")
        return self

    def rule(self, origin: str) -> Rule:
        return Rule.parse(self.who, self.repository, self.allow, origin)


class ImmutableEntry(_Entry):
    """One `[[immutable]]`: tags that never name another manifest."""

    repository: str
    tags: str

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        self.pattern()
        return self

    def pattern(self) -> ImmutableTags:
        return ImmutableTags.parse(self.repository, self.tags)


class QuotaEntry(_Entry):
    """One `[[quota]]`: how much one repository may hold; what is not given has no limit."""

    repository: str
    bytes: Annotated[int, Field(ge=0)] | None = None
    tags: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        self.quota()
        return self

    def quota(self) -> Quota:
        return Quota.parse(self.repository, self.bytes, self.tags)
