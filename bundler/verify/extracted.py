"""Directories that an archive was extracted to, against the files that were signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.archive.bundle_files import ExtractedBundle
from bundler.archive.extracted_tree import ExtractedTree, bundle_tree, checkpoint_tree
from bundler.errors import MalformedError
from bundler.manifest import Checkpoint, Manifest
from bundler.release_files import shown
from bundler.verify.report import Findings


def check_extracted_bundle(root: Path, manifest: Manifest, findings: Findings) -> None:
    """Compare an extracted bundle: every signed file, and nothing else where things are run from.

    Elsewhere what is not signed is listed and not read: the install guide itself puts files there.
    """
    _check(bundle_tree(root, manifest.bundle), findings)
    if not findings.faults:
        with ExtractedBundle(root, manifest.bundle) as files:
            files.check_images(manifest.images)


def check_extracted_checkpoint(root: Path, checkpoint: Checkpoint, findings: Findings) -> None:
    """Compare an extracted checkpoint, part by part; nothing else may lie in it."""
    _check(checkpoint_tree(root, checkpoint), findings)


def find_checkpoint(root: Path, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Say which checkpoint a directory holds: by its name, or else by the sizes of its files.

    Raises:
        MalformedError: None fits, or more than one.
    """
    name = root.resolve().name
    named = [item for item in checkpoints if name in {item.name, item.root}]
    if len(named) > 1:  # two that share a root
        named = [item for item in named if _fits(root, item)]
    fitting = named or [item for item in checkpoints if _fits(root, item)]
    if len(fitting) != 1:
        raise MalformedError(
            f"{shown(root)}: expected a release, an extracted bundle or an extracted checkpoint, "
            f"got a directory that fits {len(fitting) or 'no'} checkpoints of this release",
            hint="one that is called as a checkpoint is compared with that checkpoint: "
            + ", ".join(item.name for item in checkpoints),
        )
    return fitting[0]


def _fits(root: Path, checkpoint: Checkpoint) -> bool:
    for file in checkpoint.files:
        try:
            if (root / file.path).lstat().st_size != file.size:
                return False
        except OSError:
            return False
    return True


def _check(tree: ExtractedTree, findings: Findings) -> None:
    found = tree.compare()
    for path, kind in found.extra:
        findings.add_extra(tree.name, path, kind, fault=tree.closed(path))
    findings.faults += found.faults
    scope = findings.scope
    if scope.quick:
        findings.add_checked(tree.name, sum(tree.sizes[path] for path in found.sound))
        return
    paths = found.sound if scope.path is None else found.sound & {scope.path}
    faults, read = tree.check_content(paths, findings.emit)
    findings.faults += faults
    findings.add_checked(tree.name, read)
