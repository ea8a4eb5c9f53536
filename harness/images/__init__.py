"""What a node runs: the catalogue of images, how they are built, and the cache they are kept in."""

from harness.images.archive import export, import_
from harness.images.cache import Meta, Progress, Stored, images_directory, list_images, remove
from harness.images.catalogue import Recipe, catalogue, default_name
from harness.images.errors import ImageError, UnsafeArchiveError
from harness.images.image import Image, is_known, resolve
from harness.images.locks import Hold
from harness.images.mmdebstrap import build, obstacles

__all__ = [
    "Hold",
    "Image",
    "ImageError",
    "Meta",
    "Progress",
    "Recipe",
    "Stored",
    "UnsafeArchiveError",
    "build",
    "catalogue",
    "default_name",
    "export",
    "images_directory",
    "import_",
    "is_known",
    "list_images",
    "obstacles",
    "remove",
    "resolve",
]
