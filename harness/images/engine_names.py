"""What images are called in a container engine."""

from __future__ import annotations

from pathlib import Path

from harness.images.errors import ImageError
from harness.images.image import Image
from harness.images.layers import fingerprint

REPOSITORY = "ovs-harness"


def reference(image: Image) -> str:
    """What an image is called in an engine: ``ovs-harness/trixie:KEY``. Those with a developer's
    build are keyed by what is in them. Raise :class:`ImageError` for the machine's own system."""
    if Path("/") in image.lower:
        raise ImageError("the machine's own system (image host) can't be put into containers")
    name, _, _ = image.name.partition(":")
    if image.stored is None or image.lower != (image.stored.rootfs,):
        return f"{REPOSITORY}/{name}:{fingerprint(image.lower)[:16]}"
    return f"{REPOSITORY}/{name}:{image.key}"
