"""Copy images between any two places: whole and byte for byte, with what is signed and said about them.

plan = copy.plan(source, Tag("1.0"), target, Tag("1.0"))
print(plan.to_json())
result = copy.run(plan, source, target)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from client.copy_plan import BlobStep, Ends, Plan, Step
from client.copy_walk import Walk, Wish
from client.places.place import QUIETLY, Moving, Name, Place, Standing, Target
from client.progress import Event, Finished
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import ManifestBlobUnknown, ManifestInvalid, ManifestUnknown
from storage.oci.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`platforms` makes a sparse copy of an index: the same index, of whose images only these are copied.

    `referrers` takes along what refers to the image and its children, and cosign's tags for them. `foreign`
    also takes layers that their owner wants to be had from elsewhere only.
    """

    platforms: tuple[Platform, ...] = ()
    referrers: bool = True
    foreign: bool = False
    moving: Moving = QUIETLY


DEFAULT = Options()


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What is at the target now, and what that took; `blobs` counts by how they came."""

    digest: Digest
    media_type: str
    manifests: int
    blobs: dict[str, int] = field(hash=False)
    bytes: int


def copy(
    source: Place,
    reference: Digest | Name | None,
    target: Target,
    name: Name | None,
    options: Options = DEFAULT,
) -> CopyResult:
    """Copy what a reference means, and give it a name at the target, last of all.

    What the target has is left out. After an error it may have blobs and manifests more than before, which
    the next time need not move; no name was changed. Raises what the places raise: ManifestUnknown,
    ContentMismatch, ManifestBlobUnknown for a sparse copy to a registry that takes none.
    """
    return run(plan(source, reference, target, name, options), source, target, options)


def plan(
    source: Place,
    reference: Digest | Name | None,
    target: Target,
    name: Name | None,
    options: Options = DEFAULT,
) -> Plan:
    """Find out what a copy would do; nothing is written, and no blob is read."""
    root = source.resolve(reference)
    # First of all that is asked of the target: a name that it cannot have is refused before bytes move.
    named = None if name is None else target.find(name)
    walk = Walk(
        source, target, Wish(options.platforms, options.referrers, options.foreign), options.moving.deadline
    )
    walk.run(root)
    *others, last = walk.steps
    is_named = last.is_present and (name is None or named == root.digest)
    steps = (*others, Step(last.descriptor, root, is_named))
    blobs = _blobs(walk.steps, options)
    standings = target.standings(blobs, source)
    return Plan(
        Ends(source.name, target.name, source.is_remote, target.is_remote),
        name,
        steps,
        tuple(map(BlobStep, blobs, standings)),
        tuple(walk.left_out),
        options.platforms,
        tuple(walk.referrers.items()),
    )


def run(plan: Plan, source: Place, target: Target, options: Options = DEFAULT) -> CopyResult:
    """Do what was planned: blobs, manifests from the leaves up, the image's name last."""
    moving = options.moving
    counts: dict[str, int] = {}
    moved = 0

    def count(event: Event) -> None:
        nonlocal moved
        moving.progress(event)
        if isinstance(event, Finished):
            counts[event.how] = counts.get(event.how, 0) + 1
            moved += event.size if event.how in ("fetched", "pushed") else 0

    wanted = plan.blobs_that_are(Standing.MOUNTABLE) + plan.blobs_that_are(Standing.ABSENT)
    if wanted:
        target.write_blobs(wanted, source, Moving(count, moving.pace, moving.deadline))
    *others, root = plan.steps
    for step in others:
        moving.deadline.limit(1.0)
        _put(step, target)
    for subject, referrers in plan.referrers:
        target.add_referrers(subject, referrers)
    if not root.is_present:
        _put_root(plan, target)
    present = len(plan.blobs_that_are(Standing.PRESENT))
    if present:
        counts["present"] = counts.get("present", 0) + present
    return CopyResult(plan.root.digest, plan.root.media_type, len(plan.to_put), counts, moved)


def _put(step: Step, target: Target) -> None:
    if step.is_present or step.manifest is None:
        return
    if step.tag is None:
        target.put_child(step.manifest)
    else:
        target.put_root(step.manifest, step.tag)


def _put_root(plan: Plan, target: Target) -> None:
    try:
        target.put_root(plan.root, plan.name)
    except (ManifestBlobUnknown, ManifestInvalid, ManifestUnknown) as error:
        if not plan.left_out:
            raise
        missing = [descriptor.digest for descriptor in plan.left_out]
        raise ManifestBlobUnknown(
            f"{target.name} takes no index without all its images; copy all platforms, or one of them by its "
            f"digest, as in {plan.ends.source}@{plan.steps[0].descriptor.digest}",
            digests=missing,
        ) from error


def _blobs(steps: Sequence[Step], options: Options) -> list[Descriptor]:
    """Return the blobs of the manifests that are not there with theirs, each once."""
    found: dict[Digest, Descriptor] = {}
    for step in steps:
        manifest = step.manifest
        if manifest is None or (step.is_present and not options.foreign):
            continue
        for blob in (*manifest.blobs, *(manifest.layers if options.foreign else ())):
            found.setdefault(blob.digest, blob)
    return list(found.values())
