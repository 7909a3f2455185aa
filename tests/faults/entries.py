"""What a process under test runs: ``bundle`` itself, or an upload by the library alone.

Imported whole before any process is made of it, so that a fault meets the work and not an import.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import botocore.session

import bundler
from bundler import cli, parts
from bundler.archive.files import atomic_write_bytes
from bundler.errors import BundleError
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import decode_manifest
from bundler.parts import MIB
from bundler.publish.upload import UploadOptions
from bundler.reference import S3Prefix
from bundler.stores.opening import open_bucket
from bundler.stores.retry import Patience, Timeouts
from tests.faults.inputs import CHECKPOINT, PREPARE, make
from tests.integration.uploading import Cargo, upload

for _module in pkgutil.walk_packages(bundler.__path__, "bundler."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)
botocore.session.get_session().get_component("data_loader").load_service_model("s3", "service-2")

# S3's least instead of ours, so that a sweep over thousands of points moves little.
parts.SMALLEST_PART = 5 * MIB
FILES: Mapping[str, bytes] = {
    "config.json": b"{}\n",
    "empty.txt": b"",
    "model.safetensors": b"".join(bytes([n]) * parts.SMALLEST_PART for n in (1, 2, 3)) + b"tail",
    "tokenizer/tokenizer.json": b"[]\n",
}
PARALLEL = 1
_LONGEST_WAIT_SECONDS = 0.02
_IDLE_SECONDS = 2.0


def _make(arguments: Sequence[str]) -> int:
    """Write a release with a checkpoint of a file of four parts, and small ones: DIR."""
    make(Path(arguments[0]), FILES)
    return 0


def _prepare(arguments: Sequence[str]) -> int:
    """Write the inputs of a job: KIND DIR."""
    kind, place = arguments
    PREPARE[kind](Path(place))
    return 0


def _cargo(directory: Path) -> Cargo:
    manifest = decode_manifest((directory / MANIFEST_NAME).read_bytes())
    checkpoint = manifest.checkpoint(CHECKPOINT)
    return Cargo(checkpoint, directory / checkpoint.archive)


def _upload(arguments: Sequence[str]) -> int:
    """Bring a checkpoint to the bucket: DIRECTORY ENDPOINT REGION S3-URL."""
    directory, endpoint, region, url = arguments
    place = S3Prefix.parse(url)
    patience = Patience(sleep=lambda wait: time.sleep(min(wait, _LONGEST_WAIT_SECONDS)))
    timeouts = Timeouts(idle=_IDLE_SECONDS)
    cargo = _cargo(Path(directory))
    try:
        store = open_bucket(
            place.bucket, endpoint=endpoint, region=region, patience=patience, timeouts=timeouts
        )
        upload(cargo, store, place, options=UploadOptions(parallel=PARALLEL))
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _write(arguments: Sequence[str]) -> int:
    """Write a small file as receipts and values are: PATH."""
    [path] = map(Path, arguments)
    try:
        atomic_write_bytes(path, b"a receipt\n" * 1000)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _write_carelessly(arguments: Sequence[str]) -> int:
    """Write as nobody should, for the tests of the sweeps: PATH."""
    path = Path(arguments[0])
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb", buffering=0) as file:
        file.write(b"a draft of it")
    with path.open("wb", buffering=0) as file:
        file.write(b"half of it and ")
        file.write(b"the other half")
    temporary.unlink()
    return 0


ENTRIES: Mapping[str, Callable[[Sequence[str]], int]] = {
    "make": _make,
    "prepare": _prepare,
    "bundle": lambda arguments: cli.run(list(arguments)),
    "upload": _upload,
    "write": _write,
    "write-carelessly": _write_carelessly,
}
