"""Rules of the policy and of immutable tags, and quotas: those of the database, not of the configuration."""

from functools import partial

from registry.admin import changes
from registry.endpoints.admin.asking import Asked, Right
from registry.endpoints.admin.models import (
    Created,
    Explanation,
    ImmutableRule,
    ImmutableRules,
    NewImmutableRule,
    NewQuota,
    NewRule,
    NumberedPage,
    OfRepository,
    Page,
    Question,
    Quota,
    Quotas,
    Rule,
    Rules,
)
from registry.endpoints.admin.operation import Operation
from registry.metadata import immutable, quotas, rules
from storage.oci.errors import RequestInvalid
from storage.oci.names import RepositoryName


async def listing(asked: Asked, query: NumberedPage) -> Rules:
    found = await asked.read(partial(rules.listing, after=query.last, limit=query.n + 1))
    if len(found) > query.n:
        asked.link_next("/policy/rules", found[query.n - 1].id, query.n)
    return Rules(rules=[Rule.of(rule) for rule in found[: query.n]])


async def add(asked: Asked, body: NewRule) -> Created:
    asked.note(who=body.who, repository=body.repository, actions=body.actions)
    number = await asked.change(
        partial(
            changes.add_rule,
            who=body.who,
            repository=body.repository,
            actions=body.actions,
            created_by=asked.me,
        )
    )
    return Created(id=number)


async def remove(asked: Asked) -> None:
    await asked.change(partial(changes.remove_rule, number=_number(asked)))


async def explain(asked: Asked, body: Question) -> Explanation:
    name = RepositoryName.parse(body.repository)
    principal = await asked.read(partial(changes.read_principal, text=body.principal))
    policy = asked.administration.policy
    policy.refresh()  # a rule that was just added counts
    found = changes.explain(policy, principal, body.action, name)
    return Explanation(is_allowed=found.allowed, text=found.text)


async def list_immutable(asked: Asked, query: NumberedPage) -> ImmutableRules:
    found = [row for row in await asked.read(immutable.listing) if row.id > query.last]
    if len(found) > query.n:
        asked.link_next("/immutable-tags", found[query.n - 1].id, query.n)
    return ImmutableRules(
        immutable_rules=[
            ImmutableRule(id=row.id, repository=row.pattern.repository.text, tags=row.pattern.tags.text)
            for row in found[: query.n]
        ]
    )


async def add_immutable(asked: Asked, body: NewImmutableRule) -> Created:
    asked.note(repository=body.repository, tags=body.tags)
    number = await asked.change(partial(changes.add_immutable, repository=body.repository, tags=body.tags))
    return Created(id=number)


async def remove_immutable(asked: Asked) -> None:
    await asked.change(partial(changes.remove_immutable, number=_number(asked)))


async def list_quotas(asked: Asked, query: Page) -> Quotas:
    found = [row for row in await asked.read(quotas.listing) if row.repository.text > query.last]
    if len(found) > query.n:
        asked.link_next("/quotas", found[query.n - 1].repository.text, query.n)
    return Quotas(
        quotas=[
            Quota(repository=row.repository.text, bytes=row.bytes, tags=row.tags) for row in found[: query.n]
        ]
    )


async def put_quota(asked: Asked, body: NewQuota) -> Quota:
    asked.note(repository=body.repository, bytes=body.bytes, tags=body.tags)
    await asked.change(
        partial(changes.put_quota, repository=body.repository, bytes_=body.bytes, tags=body.tags)
    )
    return Quota(repository=body.repository, bytes=body.bytes, tags=body.tags)


async def remove_quota(asked: Asked, query: OfRepository) -> None:
    asked.note(repository=query.repository)
    await asked.change(partial(changes.remove_quota, repository=query.repository))


def _number(asked: Asked) -> int:
    text = asked.path["id"]
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise RequestInvalid("a rule's id is a number")
    return int(text)


OPERATIONS = (
    Operation("GET", "/policy/rules", Right.ADMIN, listing, "List rules"),
    Operation("POST", "/policy/rules", Right.ADMIN, add, "Add a rule", "policy.add", 201),
    Operation("DELETE", "/policy/rules/{id}", Right.ADMIN, remove, "Remove a rule", "policy.remove"),
    Operation(
        "POST", "/policy/explain", Right.ADMIN, explain, "Say what would be decided, and by which rule"
    ),
    Operation("GET", "/immutable-tags", Right.ADMIN, list_immutable, "List rules of immutable tags"),
    Operation(
        "POST", "/immutable-tags", Right.ADMIN, add_immutable, "Make tags immutable", "immutable.add", 201
    ),
    Operation(
        "DELETE",
        "/immutable-tags/{id}",
        Right.ADMIN,
        remove_immutable,
        "Remove a rule of immutable tags",
        "immutable.remove",
    ),
    Operation("GET", "/quotas", Right.ADMIN, list_quotas, "List quotas"),
    Operation("PUT", "/quotas", Right.ADMIN, put_quota, "Set the quota of a pattern", "quota.set"),
    Operation(
        "DELETE", "/quotas", Right.ADMIN, remove_quota, "Remove the quota of a pattern", "quota.remove"
    ),
)
