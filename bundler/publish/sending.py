"""The images' part of carrying a plan out: repositories first, then the images by either engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles
from bundler.events import Emit, Noted
from bundler.manifest import Manifest
from bundler.publish.at_registry import AtRegistry
from bundler.publish.destination import Destination
from bundler.publish.images import load, pending_images, present_images
from bundler.publish.plan import Kind, Plan
from bundler.publish.push import PushOptions, push_images
from bundler.publish.push_archives import ArchivePush
from bundler.publish.push_progress import Sent
from bundler.publish.repositories import create_repositories
from bundler.reference import ImageTag


@dataclass(frozen=True, slots=True, kw_only=True)
class SendImages:
    """Sends what a plan says is to do of the images.

    Attributes:
        destination: Where they go.
        host: What to call the registry.
        manifest: Of the release.
        files: The bundle that has their archives.
        options: How they are pushed.
        scratch: Directory for an engine that needs one.
        stop: Set when other work failed.
        emit: Told of progress; from other threads.
    """

    destination: Destination
    host: str
    manifest: Manifest
    files: BundleFiles
    options: PushOptions
    scratch: Path
    stop: threading.Event
    emit: Emit

    def make_repositories(self, plan: Plan) -> None:
        """Make the repositories that are to do."""
        if self.destination.repositories is not None:
            create_repositories(self.destination.repositories, plan.pending, self.emit)

    def send(self, plan: Plan) -> Mapping[ImageTag, Sent]:
        """Push the images that are to do, and read back the others where that is wanted.

        Returns:
            What each image of the release came to, but for those that others keep out.

        Raises:
            ContentError, ConflictError, WorldError: As ``push_images`` does.
        """
        images, repositories = self.manifest.images, self.destination.repositories
        pending = pending_images(plan, images)
        present = load(self.files, present_images(plan, images))
        for step in plan.steps:
            if step.kept and step.kind is Kind.IMAGE:
                self.emit(Noted(str(step)))
        if present and self.options.read_back:
            look = AtRegistry(
                registry=self.destination.registry,
                host=self.host,
                threads=self.options.parallel,
                stop=self.stop,
                emit=self.emit,
            )
            look.check(present, read_back=True)
        there = {item.image.tag: Sent(there=item.size) for item in present}
        if not pending:
            return there
        if self.destination.push_archive is not None:
            push = ArchivePush(
                push=self.destination.push_archive,
                registry=self.destination.registry,
                files=self.files,
                bundle=self.manifest.bundle,
                scratch=self.scratch,
                host=self.host,
                options=self.options,
                stop=self.stop,
                emit=self.emit,
            )
            return there | push.send(pending)
        return there | push_images(
            self.destination.registry,
            self.files,
            pending,
            present=[item.image for item in present],
            options=self.options,
            host=self.host,
            never_mounts=repositories.never_mounts if repositories else lambda: False,
            stop=self.stop,
            emit=self.emit,
        )
