"""One registry with people a module."""

from collections.abc import Iterator

import httpx
import pytest

from tests.registry.admin.stand import ALICE, Stand, standing


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("administered")) as running:
        yield running


@pytest.fixture(scope="module")
def root(stand: Stand) -> httpx.Client:
    """The API as an administrator sees it."""
    return stand.api()


@pytest.fixture(scope="module")
def alice(stand: Stand) -> httpx.Client:
    """The API as a user sees it."""
    return stand.api(ALICE)
