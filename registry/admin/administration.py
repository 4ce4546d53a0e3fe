"""What the admin API works with, besides the database."""

from dataclasses import dataclass
from typing import Self

from registry.auth.guard import Deciders
from registry.auth.identities import LocalIdentities
from registry.auth.policy import RulePolicy


@dataclass(frozen=True, slots=True)
class Administration:
    """The people of this registry's own database, and the rules."""

    identities: LocalIdentities
    policy: RulePolicy

    @classmethod
    def over(cls, deciders: Deciders) -> Self | None:
        """Return none where people and rules are somebody else's to administer."""
        identities, policy = deciders.identities, deciders.policy
        if not isinstance(identities, LocalIdentities) or not isinstance(policy, RulePolicy):
            return None
        return cls(identities, policy)
