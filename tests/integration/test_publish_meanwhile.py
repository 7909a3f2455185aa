"""Files that somebody changes between the moment they are checked and the moment they are used.

What was opened is used, by its descriptor, so another file under its name changes nothing; and
every byte is held to what was signed once more when it is used, so other bytes in the same file are
found. Each test does it at one moment of a publish.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bundler.archive.bundle_files import open_bundle_files
from bundler.errors import ContentError, MalformedError
from bundler.events import Event, Started
from bundler.manifest import MANIFEST_NAME
from bundler.parts import s3_checksum
from bundler.release import TrustedRelease, open_release, signature_name
from bundler.sums import SUMS_NAME
from tests.integration import test_publish as whole
from tests.integration.test_publish import Site
from tests.publishable import SMALL, make_publishable
from tests.pushable import blob_offset

site = whole.site
WEIGHTS = "model.safetensors"
CHART_FILE = "charts/inference/templates/deployment.yaml"
Where = Callable[[TrustedRelease], tuple[Path, int]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(tmp_path_factory.mktemp("release") / "demo", SMALL)


@pytest.fixture
def release(original: TrustedRelease, tmp_path: Path) -> TrustedRelease:
    shutil.copytree(original.directory, tmp_path / "medium")
    return open_release(tmp_path / "medium", original.trust)


def in_weights(release: TrustedRelease) -> tuple[Path, int]:
    checkpoint = release.manifest.checkpoint("point_1")
    [file] = [file for file in checkpoint.files if file.path == WEIGHTS]
    return release.directory / checkpoint.archive, file.offset + 100


def in_layer(release: TrustedRelease) -> tuple[Path, int]:
    bundle, image = release.manifest.bundle, release.manifest.images[0]
    layer = max(image.blobs, key=lambda blob: blob.size)
    with open_bundle_files(release.directory, bundle) as files:
        at = blob_offset(files, bundle, image, layer.digest)
    return release.directory / bundle.archive, at + 515  # in the content of its one file


def in_chart(release: TrustedRelease) -> tuple[Path, int]:
    bundle = release.manifest.bundle
    plain = bundle.file(CHART_FILE).offset + 20
    return release.directory / bundle.archive, 10 + plain + 5 * (plain // bundle.block_bytes + 1)


def changed(path: Path, at: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    return bytes(content)


def write_into(path: Path, at: int) -> None:
    """Change one byte in the same file, and leave its times as they were."""
    before, content = path.stat(), changed(path, at)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content[at : at + 1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another(path: Path, at: int) -> None:
    """Rename another file, with another byte, over the first."""
    other = path.with_name("other")
    other.write_bytes(changed(path, at))
    other.rename(path)


def put_a_link(path: Path, at: int) -> None:
    """Put a link to another file in the place of the first."""
    other = path.parent.with_name("other")
    other.write_bytes(changed(path, at))
    path.unlink()
    path.symlink_to(other)


@dataclass
class Intruder:
    """Does something at the first event of a kind, and lets all go on."""

    verb: str
    act: Callable[[], object]
    came: bool = False

    def __call__(self, event: Event) -> None:
        if not self.came and isinstance(event, Started) and event.verb == self.verb:
            self.came = True
            self.act()


def require_as_signed(site: Site, release: TrustedRelease) -> None:
    """Hold all that is at the destination, whole or not, to what was signed."""
    files = {
        file.path: s3_checksum(file.parts)
        for checkpoint in release.manifest.checkpoints
        for file in checkpoint.files
        if file.path == WEIGHTS and checkpoint.name == "point_1"
    }
    for key in site.objects():
        if "/point/" in key and key.endswith(WEIGHTS):
            head = site.store.head(key)
            assert head is not None
            assert head.checksum == files[WEIGHTS]
    signed = {image.tag.name: image.digest for image in release.manifest.images}
    for image in release.manifest.images:
        assert site.digest(image.tag) in {None, signed[image.tag.name]}


PLACES = pytest.mark.parametrize(
    ("verb", "where"),
    [("upload", in_weights), ("push", in_layer), ("push", in_chart)],
    ids=["weights", "layer", "chart"],
)


@PLACES
def test_other_bytes_in_a_file_that_was_checked_are_found_when_they_are_used(
    site: Site, release: TrustedRelease, verb: str, where: Where
) -> None:
    place = where(release)
    site.emit = intruder = Intruder(verb, lambda: write_into(*place))
    with pytest.raises(ContentError, match="expected"):
        site.publish(release, verify_first=True)
    assert intruder.came
    assert site.cluster.upgrades == 0
    require_as_signed(site, release)
    weights = [key for key in site.objects() if "/point/" in key and key.endswith(WEIGHTS)]
    assert (weights == []) == (where is in_weights)
    if where is in_layer:
        assert site.digest(release.manifest.images[0].tag) is None


@PLACES
@pytest.mark.parametrize("put", [put_another, put_a_link])
def test_another_file_under_the_name_of_one_that_is_open_changes_nothing(
    site: Site,
    release: TrustedRelease,
    verb: str,
    where: Where,
    put: Callable[[Path, int], None],
) -> None:
    path, at = where(release)
    site.emit = intruder = Intruder(verb, lambda: put(path, at))
    receipt = site.publish(release, verify_first=True)
    assert intruder.came
    assert receipt is not None
    require_as_signed(site, release)
    assert site.cluster.upgrades == 1
    assert [site.digest(image.tag) for image in release.manifest.images] == [
        image.digest for image in release.manifest.images
    ]


@PLACES
@pytest.mark.parametrize("put", [write_into, put_another, put_a_link])
def test_what_changes_after_the_plan_is_found(
    site: Site,
    release: TrustedRelease,
    verb: str,
    where: Where,
    put: Callable[[Path, int], None],
) -> None:
    """The plan was made, shown and agreed to; then somebody exchanges the archive."""
    plan = site.plan(release)
    put(*where(release))
    with pytest.raises((ContentError, MalformedError)):
        site.publish(release, plan)
    assert site.cluster.upgrades == 0
    require_as_signed(site, release)


def test_small_files_that_change_after_they_were_judged_are_published_as_they_were(
    site: Site, release: TrustedRelease
) -> None:
    names = (MANIFEST_NAME, SUMS_NAME, signature_name(release.signatures[0]))
    judged = {name: (release.directory / name).read_bytes() for name in names}

    def change() -> None:
        for name in names:
            (release.directory / name).write_bytes(b"{}")

    site.emit = intruder = Intruder("upload", change)
    assert site.publish(release) is not None
    assert intruder.came
    objects = {key.rpartition("/")[2]: key for key in site.objects() if "/releases/demo" in key}
    assert {name: site.store.get(objects[name], limit=1 << 20) for name in names} == judged


def test_helm_gets_the_values_that_were_judged_whatever_becomes_of_the_operators_copy(
    site: Site, release: TrustedRelease, tmp_path: Path
) -> None:
    """The operator's directory may be shared; the one that Helm reads from is ours alone."""
    judged: list[str] = []
    evil = {"image": {"repository": "evil.example/atlas"}, "models": {}}

    def intrude() -> None:
        judged.append(site.values_path.read_text())
        site.values_path.unlink()
        site.values_path.write_text(yaml.safe_dump(evil))
        [scratch] = site.directory.glob("bundle-scratch-*")
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o700

    site.cluster.before_upgrade = intrude
    assert site.publish(release) is not None
    assert site.cluster.newest is not None
    installed = site.cluster.newest.values
    assert "evil.example" not in str(installed)
    assert installed == yaml.safe_load(judged[0])


def test_a_link_in_the_place_of_the_values_is_replaced_and_not_followed(
    site: Site, release: TrustedRelease, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("mine")
    site.values_path.symlink_to(tmp_path / "precious")
    assert site.publish(release) is not None
    assert (tmp_path / "precious").read_text() == "mine"
    assert not site.values_path.is_symlink()
