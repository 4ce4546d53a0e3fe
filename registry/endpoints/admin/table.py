"""Every request of the admin API."""

from registry.endpoints.admin import groups, keys, policy, robots, tokens, users

OPERATIONS = (
    *users.OPERATIONS,
    *groups.OPERATIONS,
    *robots.OPERATIONS,
    *tokens.OPERATIONS,
    *policy.OPERATIONS,
    *keys.OPERATIONS,
)
