"""Pushes the images of a bundle with the library alone: what ``bundle publish`` does of a push.

Run as ``python -m tests.bench.push_ours BUNDLE.tar.gz HOST[:PORT][/PATH]``; MANIFEST.json lies
beside the bundle. The signature is not asked for: measuring and killing need none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundler.archive.bundle_files import open_bundle_files
from bundler.errors import BundleError
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import decode_manifest
from bundler.publish.push import PushOptions, push_images
from bundler.stores.opening import open_logins, open_registry


def push(
    bundle: Path, host: str, *, plain_http: bool, ca: Path | None, options: PushOptions
) -> None:
    """Push every image.

    Raises:
        BundleError: As ``push_images`` has it.
    """
    manifest = decode_manifest((bundle.parent / MANIFEST_NAME).read_bytes())
    logins = open_logins(host)
    registry = open_registry(host, logins=logins, plain_http=plain_http, ca=ca)
    with open_bundle_files(bundle.parent, manifest.bundle) as files:
        push_images(registry, files, manifest.images, options=options, host=host)


def main() -> int:
    """Push as the command line says; gives an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.push_ours", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("host")
    parser.add_argument("--plain-http", action="store_true")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--parallel", type=int, default=PushOptions().parallel)
    asked = parser.parse_args()
    options = PushOptions(parallel=asked.parallel)
    try:
        push(asked.bundle, asked.host, plain_http=asked.plain_http, ca=asked.ca, options=options)
    except BundleError as error:
        print(f"push: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
