"""The store's rows: which manifests it holds, which image has which name, and what is in use.

Each function is a statement or a unit of work over a `Connection`; see schema/.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.database import Connection
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import ManifestUnknown
from storage.oci.manifest import Manifest


@dataclass(frozen=True, slots=True)
class TagRow:
    """A name, as `host/repository:tag`, of an image; times are seconds since 1970."""

    name: str
    digest: Digest
    tagged_at: float


@dataclass(frozen=True, slots=True)
class Lease:
    id: str
    digest: Digest
    purpose: str
    boot: str


def add_manifest(connection: Connection, manifest: Manifest, chain: Sequence[Digest] = ()) -> None:
    """Note a manifest whose bytes are in the store, and `chain`, the layers that were unpacked for it."""
    digest = str(manifest.digest)
    connection.execute(
        "INSERT INTO manifest (digest, media_type, size) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (digest, manifest.media_type, manifest.size),
    )
    for kind, named in _references(manifest):
        connection.execute(
            "INSERT INTO manifest_reference (manifest, kind, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, kind, str(named)),
        )
    for position, chain_id in enumerate(chain):
        connection.execute(
            "INSERT INTO image_layer (manifest, position, chain_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, position, str(chain_id)),
        )


def _references(manifest: Manifest) -> Iterable[tuple[str, Digest]]:
    yield from (("manifest", child.digest) for child in manifest.manifests)
    yield from (("blob", blob.digest) for blob in (*manifest.blobs, *manifest.layers))
    if manifest.config is not None:
        yield "config", manifest.config.digest
    if manifest.subject is not None:
        yield "subject", manifest.subject.digest


def add_image(connection: Connection, digest: Digest) -> None:
    """Note that a manifest was pulled or loaded for its own sake."""
    connection.execute(
        "INSERT INTO image (digest, added_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (str(digest), connection.now()),
    )


def set_tag(connection: Connection, name: str, digest: Digest) -> None:
    connection.execute(
        "INSERT INTO tag (name, digest, tagged_at) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, tagged_at = excluded.tagged_at",
        (name, str(digest), connection.now()),
    )


def remove_tag(connection: Connection, name: str) -> bool:
    return connection.execute("DELETE FROM tag WHERE name = ?", (name,)).rowcount > 0


def find_tag(connection: Connection, name: str) -> Digest | None:
    row = connection.execute("SELECT digest FROM tag WHERE name = ?", (name,)).fetchone()
    return None if row is None else Digest.parse(row[0])


def tags(connection: Connection) -> list[TagRow]:
    """List all names, in bytewise order."""
    found = connection.execute("SELECT name, digest, tagged_at FROM tag ORDER BY name")
    return [TagRow(name, Digest.parse(digest), at) for name, digest, at in found]


def tags_of(connection: Connection, digest: Digest) -> list[str]:
    found = connection.execute("SELECT name FROM tag WHERE digest = ? ORDER BY name", (str(digest),))
    return [name for (name,) in found]


def images(connection: Connection) -> list[tuple[Digest, float]]:
    """List what was pulled or loaded and since when, newest first."""
    found = connection.execute("SELECT digest, added_at FROM image ORDER BY added_at DESC, digest")
    return [(Digest.parse(digest), added_at) for digest, added_at in found]


def has_image(connection: Connection, digest: Digest) -> bool:
    row = connection.execute("SELECT 1 FROM image WHERE digest = ?", (str(digest),)).fetchone()
    return row is not None


def remove_image(connection: Connection, digest: Digest) -> None:
    """Forget an image and its names. What it was made of goes with the next collection."""
    connection.execute("DELETE FROM tag WHERE digest = ?", (str(digest),))
    connection.execute("DELETE FROM image WHERE digest = ?", (str(digest),))


def has_manifest(connection: Connection, digest: Digest) -> bool:
    row = connection.execute("SELECT 1 FROM manifest WHERE digest = ?", (str(digest),)).fetchone()
    return row is not None


def descriptor(connection: Connection, digest: Digest) -> Descriptor:
    """Describe a manifest that the store holds. Raises ManifestUnknown."""
    statement = "SELECT media_type, size FROM manifest WHERE digest = ?"
    row = connection.execute(statement, (str(digest),)).fetchone()
    if row is None:
        raise ManifestUnknown(f"no manifest {digest} in the store")
    return Descriptor(row[0], digest, row[1])


def find_by_id(connection: Connection, prefix: str) -> list[Digest]:
    """Return the manifests whose digest, or whose configuration's, starts with `sha256:9f86…`."""
    found = connection.execute(
        "SELECT digest FROM manifest WHERE substr(digest, 1, ?) = ? UNION"
        " SELECT manifest FROM manifest_reference WHERE kind = 'config' AND substr(digest, 1, ?) = ?",
        (len(prefix), prefix, len(prefix), prefix),
    )
    return [Digest.parse(digest) for (digest,) in found]


def manifests(connection: Connection) -> list[Digest]:
    found = connection.execute("SELECT digest FROM manifest ORDER BY digest")
    return [Digest.parse(digest) for (digest,) in found]


def remove_manifests(connection: Connection, digests: Iterable[Digest]) -> None:
    for digest in digests:
        connection.execute("DELETE FROM manifest WHERE digest = ?", (str(digest),))


def chain_of(connection: Connection, digest: Digest) -> tuple[Digest, ...]:
    """Return the layers that were unpacked for an image, lowest first."""
    found = connection.execute(
        "SELECT chain_id FROM image_layer WHERE manifest = ? ORDER BY position", (str(digest),)
    )
    return tuple(Digest.parse(chain_id) for (chain_id,) in found)


def children(connection: Connection, digest: Digest) -> list[tuple[str, Digest]]:
    """Return what a manifest names: (kind, digest) with the kinds manifest, config, blob, subject."""
    found = connection.execute(
        "SELECT kind, digest FROM manifest_reference WHERE manifest = ?", (str(digest),)
    )
    return [(kind, Digest.parse(named)) for kind, named in found]


def parents(connection: Connection, digest: Digest) -> list[Digest]:
    """Return the indexes that list a manifest."""
    found = connection.execute(
        "SELECT manifest FROM manifest_reference WHERE kind = 'manifest' AND digest = ?", (str(digest),)
    )
    return [Digest.parse(manifest) for (manifest,) in found]


def referrers(connection: Connection, digest: Digest) -> list[Digest]:
    found = connection.execute(
        "SELECT manifest FROM manifest_reference WHERE kind = 'subject' AND digest = ? ORDER BY manifest",
        (str(digest),),
    )
    return [Digest.parse(manifest) for (manifest,) in found]


def add_lease(connection: Connection, lease: Lease) -> None:
    connection.execute(
        "INSERT INTO lease (id, digest, purpose, boot, leased_at) VALUES (?, ?, ?, ?, ?)",
        (lease.id, str(lease.digest), lease.purpose, lease.boot, connection.now()),
    )


def remove_lease(connection: Connection, purpose: str) -> bool:
    return connection.execute("DELETE FROM lease WHERE purpose = ?", (purpose,)).rowcount > 0


def remove_leases_of_other_boots(connection: Connection, boot: str) -> None:
    connection.execute("DELETE FROM lease WHERE boot <> ?", (boot,))


def leases(connection: Connection) -> list[Lease]:
    found = connection.execute("SELECT id, digest, purpose, boot FROM lease ORDER BY leased_at")
    return [Lease(id_, Digest.parse(digest), purpose, boot) for id_, digest, purpose, boot in found]


@dataclass(frozen=True, slots=True)
class Live:
    """What is wanted: by name, by lease, or because what is wanted refers to it."""

    manifests: frozenset[Digest]
    blobs: frozenset[Digest]
    chain_ids: frozenset[Digest]


def live(connection: Connection, without: frozenset[str] = frozenset()) -> Live:
    """Follow all references from images and leases; a referrer lives as long as its subject.

    The images `without` count as forgotten.
    """
    held = {digest for (digest,) in connection.execute("SELECT digest FROM manifest")}
    named: dict[str, set[str]] = {digest: set() for digest in held}
    follow: dict[str, set[str]] = {digest: set() for digest in held}
    for manifest, kind, digest in connection.execute("SELECT manifest, kind, digest FROM manifest_reference"):
        named[manifest].add(digest)
        if kind == "manifest":
            follow[manifest].add(digest)
        elif kind == "subject" and digest in held:
            follow[digest].add(manifest)
    roots = {digest for (digest,) in connection.execute("SELECT digest FROM image")} - without
    roots.update(digest for (digest,) in connection.execute("SELECT digest FROM lease"))
    found = _reachable(roots, follow)
    chains = connection.execute("SELECT manifest, chain_id FROM image_layer")
    return Live(
        _digests(found),
        _digests(found.union(*(named[digest] for digest in found))),
        _digests(chain_id for manifest, chain_id in chains if manifest in found),
    )


def _reachable(roots: set[str], follow: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest in follow and digest not in found:
            found.add(digest)
            todo += follow[digest]
    return found


def _digests(texts: Iterable[str]) -> frozenset[Digest]:
    return frozenset(Digest.parse(text) for text in texts)
