"""What can go wrong with images, said so that the user knows what to do."""

from __future__ import annotations


class ImageError(RuntimeError):
    """An image is not there, can't be made, or is no image; the message says how to go on."""


class UnsafeArchiveError(ImageError):
    """An archive holds something that no image has: a path outside of it, a device and so on."""
