"""The inputs of each job, written in a process of their own: parts are of another size there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler import cli
from bundler.sign import sign_release
from bundler.signing.keys import new_key_pair, read_private_key
from tests.faults.publish_inputs import make_publishable
from tests.integration.release_inputs import write_inputs
from tests.small_release import (
    make_checkpoint,
    make_release,
    replace_checkpoint,
    write_small_files,
)
from tests.volume_sets import make_signed

CHECKPOINT = "tiny_2026.10"


def _unsigned(place: Path) -> bytes:
    """Write a release that no key vouches for, and the private key that may; gives the other."""
    release = make_signed(place / "release")
    for path in release.glob("*.sig"):
        path.unlink()
    private, public = new_key_pair(None)
    (place / "key").write_bytes(private)
    return public


def _signed(place: Path) -> None:
    public = _unsigned(place)
    key = place / "key"
    sign_release(place / "release", read_private_key(key.read_bytes(), None, name=key.name))
    (place / "key.pub").write_bytes(public)
    (place / "out").mkdir()


def make(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write an unsigned release whose one checkpoint to look at holds these files."""
    manifest = make_release(directory)
    with TemporaryDirectory() as scratch:
        checkpoint = make_checkpoint(directory, Path(scratch), CHECKPOINT, "t", dict(files))
    write_small_files(directory, replace_checkpoint(manifest, checkpoint))


def _locked(place: Path) -> None:
    spec = write_inputs(place / "in")
    if cli.run(["lock", str(spec)]):
        raise ValueError("the sources were not locked")


PREPARE: Mapping[str, Callable[[Path], object]] = {
    "sources": lambda place: write_inputs(place / "in"),
    "locked": _locked,
    "unsigned": _unsigned,
    "signed": _signed,
    "publishable": make_publishable,
    "nothing": lambda place: None,
}
