"""What a build asks of the programs that it uses."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bundler.digest import Digest
from bundler.source import Fetched, Platform, Resolved, Source


class ImageSource(Protocol):
    """Where images come from.

    Every method raises NotFoundError where there is no such image, DeniedError where the registry
    refuses us, another WorldError where it cannot be reached or fails, and MalformedError for a
    manifest that we do not read.
    """

    def require(self) -> None:
        """Raise ToolError where a program is missing or too old."""

    def resolve(
        self, source: Source, *, platform: Platform | None = None, plain_http: bool = False
    ) -> Resolved:
        """Ask what a source names now, and what is taken for a platform, without copying it."""

    def fetch(
        self,
        source: Source,
        layout_dir: Path,
        *,
        taken: Digest | None = None,
        plain_http: bool = False,
    ) -> Fetched:
        """Copy a manifest or index of a source, and all below it, into a new OCI layout.

        Docker's media types are converted to OCI's.
        """
