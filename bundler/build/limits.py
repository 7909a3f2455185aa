"""What registries take: found out when a release is built, not when it is published.

The limits are those of Amazon ECR, which has the narrowest of the registries that state any; so a
release fits wherever it goes. Manifests and configs over 4 MiB, which is its other limit, are not
read from a layout in the first place.
"""

from __future__ import annotations

from collections.abc import Iterable

from bundler.errors import MalformedError
from bundler.manifest import Blob
from bundler.reference import ImageTag
from bundler.sizes import size_text

# Source: Amazon ECR user guide, "Amazon ECR service quotas", maximum layer size.
MAX_LAYER_BYTES = 52_000 << 20


def require_within_limits(tag: ImageTag, blobs: Iterable[Blob]) -> None:
    """Make sure that a registry will take each blob of an image.

    Raises:
        MalformedError: Some are too large; the message names all of them.
    """
    large = [blob for blob in blobs if blob.size > MAX_LAYER_BYTES]
    if large:
        named = ", ".join(f"{blob.digest} ({size_text(blob.size)})" for blob in large)
        raise MalformedError(
            f"image {tag}: expected layers of at most {size_text(MAX_LAYER_BYTES)}, as Amazon ECR "
            f"takes them, got {named}",
            hint="split the layer into several; weights do not belong into an image: name their "
            "files under checkpoints in the spec",
        )
