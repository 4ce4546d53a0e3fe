"""The keys that sign access tokens: never shown, only named."""

from functools import partial

from registry.admin import changes
from registry.endpoints.admin.asking import Asked, Right
from registry.endpoints.admin.models import Key, Keys, Nothing, RotatedKey
from registry.endpoints.admin.operation import Operation
from registry.metadata import signing_keys


async def listing(asked: Asked) -> Keys:
    return Keys(keys=[Key.of(key) for key in await asked.read(signing_keys.live)])


async def rotate(asked: Asked, body: Nothing) -> RotatedKey:
    settings = asked.settings
    kid = await asked.change(
        partial(changes.rotate_key, algorithm=settings.token_algorithm, token_seconds=settings.token_seconds)
    )
    asked.note(kid=kid)
    return RotatedKey(kid=kid)


async def retire(asked: Asked) -> None:
    await asked.change(partial(changes.retire_key, kid=asked.path["kid"]))


OPERATIONS = (
    Operation("GET", "/keys", Right.ADMIN, listing, "List signing keys, the one that signs first"),
    Operation("POST", "/keys", Right.ADMIN, rotate, "Sign with a new key from now on", "key.rotate", 201),
    Operation("DELETE", "/keys/{kid}", Right.ADMIN, retire, "End a key and what it signed", "key.retire"),
)
