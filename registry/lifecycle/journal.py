"""The journal: every change of names and locations, in storage, so that the database can be made anew.

Rows of the outbox become lines of `journal/<first id>` objects, and each manifest is an object of its own
under its digest. Both are written again after a crash: a line carries its id, so a reader drops repeats.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from registry.metadata import manifests, outbox
from storage.database import Database
from storage.objects import ObjectStore
from storage.oci.digest import Digest

# An object is written anew with each batch until it has this size; then a new one begins.
_OBJECT_BYTES = 256 * 1024
_BATCH = 500


class Journal:
    """Drains the outbox into the object store. One process at a time calls `drain`."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        self._open: tuple[str, bytes] | None = None

    def drain(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Write what the outbox holds; return how many changes that were.

        Asked to stop it leaves the rest in the outbox, for the next start: what it wrote of a batch that it
        did not finish is written again then.
        """
        total = 0
        while rows := self._database.read(lambda db: outbox.pending(db, _BATCH)):
            events = [{"id": id_, **json.loads(event)} for id_, event in rows]
            if not self._store_manifests(events, stopping):
                break
            self._append(events)
            self._database.transaction(partial(outbox.forget, through=rows[-1][0]))
            total += len(rows)
        return total

    def _store_manifests(self, events: list[dict[str, Any]], stopping: Callable[[], bool]) -> bool:
        """Store what the events name; say whether that was all of it."""
        for event in events:
            if stopping():
                return False
            if event["kind"] in ("manifest", "unmanifest"):
                self._store_manifest(Digest.parse(event["digest"]))
        return True

    def _store_manifest(self, digest: Digest) -> None:
        """Bring the object of a manifest to what the database holds now: its bytes, or nothing."""
        body = self._database.read(lambda db: manifests.find_body(db, str(digest)))
        if body is None:
            self._objects.delete(manifest_key(digest))
        else:
            self._objects.put(manifest_key(digest), body)

    def _append(self, events: list[dict[str, Any]]) -> None:
        key, content = self._open or self._last()
        if not key or len(content) > _OBJECT_BYTES:
            key, content = f"journal/{events[0]['id']:020d}", b""
        lines = [json.dumps(event, separators=(",", ":")) for event in events]
        content += "".join(line + "\n" for line in lines).encode()
        self._objects.put(key, content)
        self._open = key, content

    def _last(self) -> tuple[str, bytes]:
        keys = list(self._objects.list("journal/"))
        return (keys[-1], self._objects.get(keys[-1])) if keys else ("", b"")


def manifest_key(digest: Digest) -> str:
    """Name the object that holds a manifest's bytes."""
    return f"manifests/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
