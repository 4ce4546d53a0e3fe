"""Finding all that belongs to an image: its children, and what goes along with it.

What a place lists may be hostile: depth, number and size of the manifests are bounded.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from client.clock import NEVER, Deadline
from client.copy_plan import Step
from client.places.contents import SourcedContent
from client.places.parallel import each
from client.places.place import Place, Target
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import ManifestInvalid, ManifestUnknown
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.platform import Platform, best_match

log = logging.getLogger(__name__)

_PARALLEL = 4
_MOST_DEEP = 8
_MOST_MANIFESTS = 10_000
_MOST_BYTES = 64 * 1024 * 1024

# How buildkit says which image of an index an attestation is about.
_ATTESTED = "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class Wish:
    """Which parts of an image are wanted: all platforms when there are none."""

    platforms: tuple[Platform, ...] = ()
    referrers: bool = True
    # Then a manifest that is there says nothing of these layers.
    foreign: bool = False


class Walk:
    """Goes through the manifests of one image, leaves first; notes which ones refer to which."""

    def __init__(self, source: Place, target: Target, wish: Wish, deadline: Deadline = NEVER) -> None:
        self._source = source
        self._target = target
        self._wish = wish
        self._deadline = deadline
        self._seen: set[Digest] = set()
        self._bytes = 0
        self.steps: list[Step] = []
        self.left_out: list[Descriptor] = []
        self.referrers: dict[Digest, tuple[Descriptor, ...]] = {}

    def run(self, root: Manifest) -> None:
        """Fill `steps`; that of the root is the last. Raises ManifestInvalid beyond a bound."""
        descriptor = Descriptor(root.media_type, root.digest, root.size)
        self._count(descriptor)
        chosen = self._choose(root, depth=0)
        self._add_all(chosen, depth=1)
        if self._wish.referrers:
            digests = [root.digest, *(step.descriptor.digest for step in self.steps)]
            self._add_companions(digests)
            self._add_referrers(digests, depth=1)
        self.steps.append(Step(descriptor, root, self._target.has_manifest(descriptor)))

    def _add_all(self, descriptors: Sequence[Descriptor], depth: int) -> None:
        """Add manifests behind what they refer to."""
        new = [descriptor for descriptor in descriptors if self._count(descriptor)]
        for step in each(self._look, new, _PARALLEL):
            self._add(step, depth)

    def _add(self, step: Step, depth: int) -> None:
        if step.manifest is not None:
            self._add_all(self._choose(step.manifest, depth), depth + 1)
        self.steps.append(step)

    def _count(self, descriptor: Descriptor) -> bool:
        """Tell whether a manifest is new."""
        if descriptor.digest in self._seen:
            return False
        self._seen.add(descriptor.digest)
        # As the descriptor says, with which what is read must agree: the bound holds before the bytes come.
        self._bytes += descriptor.size
        if len(self._seen) > _MOST_MANIFESTS:
            raise ManifestInvalid(f"the image has more than {_MOST_MANIFESTS} manifests")
        if self._bytes > _MOST_BYTES:
            raise ManifestInvalid(f"the manifests of the image have more than {_MOST_BYTES} bytes")
        return True

    def _look(self, descriptor: Descriptor) -> Step:
        is_present = self._target.has_manifest(descriptor)
        if is_present and media_types.is_image_manifest(descriptor.media_type) and not self._wish.foreign:
            return Step(descriptor, None, is_present)
        return Step(descriptor, self._source.manifest(descriptor), is_present)

    def _look_for_referrer(self, descriptor: Descriptor) -> Step | None:
        """Look, but let go what is listed and gone: tags that stand in for lists are not kept so well."""
        try:
            return self._look(descriptor)
        except ManifestUnknown:
            log.warning("referrer is listed and not there", extra={"digest": str(descriptor.digest)})
            return None

    # What goes along

    def _add_companions(self, digests: Sequence[Digest]) -> None:
        """Add what cosign's tags name, for the image and its children."""
        for tag in self._source.companions(digests):
            manifest = self._source.resolve(tag)
            descriptor = Descriptor(manifest.media_type, manifest.digest, manifest.size)
            if self._count(descriptor):
                self._add_all(manifest.manifests, depth=1)
            is_present = self._target.find(tag) == manifest.digest and self._target.has_manifest(descriptor)
            self.steps.append(Step(descriptor, manifest, is_present, tag=tag))

    def _add_referrers(self, subjects: Sequence[Digest], depth: int) -> None:
        """Add the manifests that are about the subjects, and those about them."""
        if depth > _MOST_DEEP:
            raise ManifestInvalid(f"there are referrers of referrers, more than {_MOST_DEEP} deep")
        following: list[Digest] = []
        lists = each(self._source.referrers, subjects, _PARALLEL)
        for subject, listed in zip(subjects, lists, strict=True):
            new = [descriptor for descriptor in listed if self._count(descriptor)]
            for step in filter(None, each(self._look_for_referrer, new, _PARALLEL)):
                self._add(replace(step, subject=subject), depth=1)
                following.append(step.descriptor.digest)
            # Those too that are there for another reason, as attestations in an index are.
            there = {step.descriptor.digest for step in self.steps}
            if found := tuple(descriptor for descriptor in listed if descriptor.digest in there):
                self.referrers[subject] = found
        if following:
            self._add_referrers(following, depth + 1)

    # Platforms

    def _choose(self, manifest: Manifest, depth: int) -> Sequence[Descriptor]:
        """Return the children that are wanted."""
        if depth >= _MOST_DEEP and manifest.manifests:
            raise ManifestInvalid(f"there are indexes within indexes, more than {_MOST_DEEP} deep")
        if depth > 0 or not self._wish.platforms:
            return manifest.manifests
        if not media_types.is_index(manifest.media_type):
            self._check_platform(manifest)
            return ()
        chosen = _of_platforms(manifest, self._wish.platforms, self._source.name)
        self.left_out += [child for child in manifest.manifests if child not in chosen]
        return chosen

    def _check_platform(self, manifest: Manifest) -> None:
        """Raises ManifestUnknown for an image of another platform than those that are wanted."""
        config = manifest.config
        if config is None or not media_types.is_image_config(config.media_type):
            return
        if config.size > MANIFEST_LIMIT:
            raise ManifestInvalid(f"the configuration {config.digest} has more than {MANIFEST_LIMIT} bytes")
        content = SourcedContent(config, self._source.sources(), self._deadline)
        platform = ImageConfig.parse(b"".join(content.read(0, config.size))).platform
        if all(best_match(wanted, [platform]) is None for wanted in self._wish.platforms):
            raise ManifestUnknown(f"{self._source.name} has this image for {platform} only")


def _of_platforms(index: Manifest, wanted: Sequence[Platform], where: str) -> list[Descriptor]:
    """Return an image for each platform, and the attestations about them. Raises ManifestUnknown."""
    children = index.manifests
    chosen: dict[Digest, Descriptor] = {}
    for platform in wanted:
        best = best_match(platform, [child.platform for child in children])
        if best is None:
            offered = ", ".join(sorted({str(child.platform) for child in children if child.platform}))
            raise ManifestUnknown(f"{where} has no image for {platform}; it has {offered or 'no platforms'}")
        chosen[children[best].digest] = children[best]
    attested = {str(digest) for digest in chosen}
    for child in children:
        if child.annotations.get(_ATTESTED) in attested:
            chosen[child.digest] = child
    return list(chosen.values())
