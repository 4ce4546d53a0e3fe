"""Repair: what a check found lost or damaged is fetched and unpacked again."""

from collections.abc import Callable, Iterable, Sequence

from client.clock import NEVER, Deadline
from client.places.local_store import local_store
from client.places.place import Place
from client.progress import Progress, silent
from client.pull import Pull, PullOptions
from client.store import index_file
from client.store.check import Problem
from client.store.errors import ImageInUse
from client.store.store import Store
from storage.oci.digest import Digest
from storage.oci.errors import ManifestUnknown, RegistryError
from storage.oci.names import ImageReference

FindPlace = Callable[[ImageReference], Place]


def repair(
    store: Store,
    problems: Sequence[Problem],
    find_place: FindPlace,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> list[RegistryError]:
    """Remove what is damaged, then fetch it from where the images' names say, and unpack it.

    Returns why some could not be had, each for one image. Raises ImageInUse for a layer that is mounted, and
    StoreBusy when others are at work in the store.
    """
    _remove(store, problems)
    failures: list[RegistryError] = []
    for digest in dict.fromkeys(digest for problem in problems for digest in problem.manifests):
        try:
            _heal(store, digest, find_place, progress, deadline)
        except RegistryError as error:
            failures.append(error)
    index_file.write(store)
    return failures


def _remove(store: Store, problems: Iterable[Problem]) -> None:
    with store.directory.exclusive():
        used = {lease.digest for lease in store.leases()}
        for problem in problems:
            users = set().union(*map(store.wholes, problem.manifests))
            if problem.kind == "layer" and used & users:
                raise ImageInUse(f"the layer {problem.digest} is mounted: unmount it first, see `mount`")
            is_layer = problem.kind == "layer"
            path = store.directory.layer(problem.digest) if is_layer else store.directory.blob(problem.digest)
            if path.exists():
                store.directory.throw_away(path)
    store.directory.empty_trash()


def _heal(
    store: Store, digest: Digest, find_place: FindPlace, progress: Progress, deadline: Deadline
) -> None:
    """Try the store itself, where a layer's blob may be whole, and then each name of the image."""
    places = [lambda: local_store(store), *(_named(find_place, name) for name in store.names_of_part(digest))]
    error: RegistryError = ManifestUnknown(f"{digest} has no name by which it could be fetched again")
    for place in places:
        try:
            options = PullOptions(unpack=bool(store.chain(digest)))
            Pull(store, place(), options, progress, deadline).heal(digest)
        except RegistryError as failure:
            error = failure
        else:
            return
    raise error


def _named(find_place: FindPlace, name: str) -> Callable[[], Place]:
    return lambda: find_place(ImageReference.parse(name))
