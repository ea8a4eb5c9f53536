"""What images are called in a container engine."""

from __future__ import annotations

from harness.images.image import Image
from harness.images.layers import fingerprint

REPOSITORY = "ovs-harness"


def reference(image: Image) -> str:
    """What an image is called in an engine: ``ovs-harness/trixie:KEY``. Those with a developer's
    build are keyed by what is in them."""
    name, _, _ = image.name.partition(":")
    if image.stored is None or image.lower != (image.stored.rootfs,):
        return f"{REPOSITORY}/{name}:{fingerprint(image.lower)[:16]}"
    return f"{REPOSITORY}/{name}:{image.key}"
