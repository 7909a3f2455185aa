"""Uploads a checkpoint with the library alone: what ``bundle publish`` does of it.

Run as ``python -m tests.bench.upload_ours DIRECTORY ENDPOINT REGION S3-URL``, where MANIFEST.json
and the archive lie. The signature is not asked for.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from bundler.archive.checkpoint import check_structure
from bundler.digest import Digest
from bundler.errors import BundleError
from bundler.events import ignore
from bundler.publish.objects import plan_checkpoint
from bundler.publish.plan import Plan, require_no_conflicts
from bundler.publish.upload import Upload
from bundler.reference import S3Prefix
from bundler.stores.base import ObjectStore
from bundler.stores.opening import open_bucket
from tests.bench.checkpoints import read


def make_plan(store: ObjectStore, release: Path, place: S3Prefix) -> Plan:
    """Check the archive's structure, and look what is at the destination.

    Raises:
        BundleError: As checking and planning have it, or something else is there.
    """
    manifest = read(release)
    [checkpoint] = manifest.checkpoints
    check_structure(release / checkpoint.archive, checkpoint)
    plan = Plan(
        release=manifest.release.directory,
        manifest=Digest.of(b""),
        steps=tuple(plan_checkpoint(store, checkpoint, place, ignore)),
    )
    require_no_conflicts(plan)
    return plan


def carry_out(plan: Plan, store: ObjectStore, release: Path, place: S3Prefix) -> None:
    """Send what a plan says is to do.

    Raises:
        BundleError: As ``Upload`` has it.
    """
    [checkpoint] = read(release).checkpoints
    sending = Upload(
        store=store,
        place=lambda archive: release / archive,
        checks_content=True,
        stop=threading.Event(),
        emit=ignore,
    )
    sending.send(plan, [(checkpoint, place)])


def main() -> int:
    """Upload as the command line says; gives an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.upload_ours", description=__doc__)
    parser.add_argument("release", type=Path)
    parser.add_argument("endpoint")
    parser.add_argument("region")
    parser.add_argument("place", type=S3Prefix.parse, metavar="S3-URL")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--plan", action="store_true", help="send nothing")
    asked = parser.parse_args()
    release, place = asked.release, asked.place
    try:
        store = open_bucket(place.bucket, endpoint=asked.endpoint, region=asked.region, ca=asked.ca)
        plan = make_plan(store, release, place)
        if not asked.plan:
            carry_out(plan, store, release, place)
    except BundleError as error:
        print(f"upload: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
