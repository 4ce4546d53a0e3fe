"""What the configuration limits, beside the rows of the database: one value for those that check it."""

from dataclasses import dataclass

from registry.metadata.immutable import ImmutableTags
from registry.metadata.quotas import Quota


@dataclass(frozen=True, slots=True)
class Limits:
    """The configuration's immutable tags and quotas."""

    immutable: tuple[ImmutableTags, ...] = ()
    quotas: tuple[Quota, ...] = ()


NO_LIMITS = Limits()
