"""Pulls into a store under test, and what they told."""

from client.progress import Event
from client.pull import Pull, Pulled, PullOptions
from client.store.image import Image
from client.store.store import Store
from storage.oci.names import ImageReference
from tests.client.store.layouts import Layout

NAME = ImageReference.parse("registry.example/team/app:v1")


def pull(
    store: Store,
    layout: Layout,
    *names: str,
    options: PullOptions | None = None,
    events: list[Event] | None = None,
) -> Pulled:
    """Pull what a layout calls `latest`; without names under one of ours."""
    references = [ImageReference.parse(name) for name in names] or [NAME]
    tell = (lambda event: None) if events is None else events.append
    return Pull(store, layout.place(), options or PullOptions(), tell).run(None, references)


def pulled(store: Store, layout: Layout) -> Image:
    pull(store, layout)
    return store.image(str(NAME))
