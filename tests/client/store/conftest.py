"""A store and a layout to pull from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.store.store import Store
from tests.client.store.layouts import Layout


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")
