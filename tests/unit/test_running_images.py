"""What is attached to an image is not taken for an image, whatever names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bundler.archive.bundle_files import BundleFiles
from bundler.build.contents import operator_guide
from bundler.build.third_party import FoundChart, check_closures
from bundler.charts.third_party import CarriedChart
from bundler.digest import Digest
from bundler.errors import CheckError, MalformedError
from bundler.image_reference import NamedImage
from bundler.manifest import Blob, Chart, Image
from bundler.manifest_charts import ChartRules
from bundler.publish.images import load
from bundler.reference import ImageTag
from bundler.spec_charts import ThirdPartyChart
from tests.pushable import make_pushable
from tests.small_release import RELEASE

SOME, SIGNATURE = Digest.of(b"image"), Digest.of(b"signature")
RUNS = Image(
    tag=ImageTag("app", "1"),
    digest=SOME,
    source="docker://q.io/app:1",
    source_digest=SOME,
    platforms=("linux/amd64",),
    blobs=(Blob(digest=SOME, size=1),),
)
ABOUT = Image(
    tag=ImageTag("app", f"sha256-{SOME.hex}.sig"),
    digest=SIGNATURE,
    source=f"docker://q.io/app:sha256-{SOME.hex}.sig",
    source_digest=SIGNATURE,
    platforms=(),
    blobs=(Blob(digest=SIGNATURE, size=1),),
    subject=SOME,
)
REFERENCE = ABOUT.source.removeprefix("docker://")


def chart_with(*references: str) -> FoundChart:
    return FoundChart(
        spec=ThirdPartyChart(source="other.tgz"),
        version="1",
        carried=CarriedChart(name="other", content=b"", values=None, rules=ChartRules()),
        images=tuple(NamedImage("Pod/x", "x", text) for text in references),
    )


def test_a_chart_that_names_what_is_attached_names_no_image_of_the_release() -> None:
    check_closures([chart_with("q.io/app:1")], [ABOUT, RUNS])
    for reference in (REFERENCE, f"q.io/app@{SIGNATURE}"):
        with pytest.raises(CheckError, match="names images that are not in the release"):
            check_closures([chart_with(reference)], [ABOUT, RUNS])


def test_the_guide_gives_nobody_what_is_attached_in_place_of_an_image() -> None:
    guide = operator_guide(
        release=RELEASE,
        images=[ABOUT, RUNS],
        chart=Chart(name="inference", version="1", path="charts/inference", digest=SOME),
        third_party=[chart_with("q.io/app:1", f"q.io/app@{SIGNATURE}")],
        checkpoints=[],
        models=[],
    ).decode()
    assert f"`<registry-host>/app@{SOME}`" in guide
    assert f"`<registry-host>/app@{SIGNATURE}`" not in guide


def test_what_is_attached_to_a_layer_is_found_before_anything_is_pushed(tmp_path: Path) -> None:
    made = make_pushable(tmp_path / "made", {"app:1": [b"layer"]}, signed="app:1")
    image, signature = made.images
    wrong = replace(signature, subject=Digest.of(b"layer"))
    with made.open() as files:
        assert len(load(files, [signature, image])) == 2
        for act in (load, BundleFiles.check_images):
            with pytest.raises(MalformedError, match="to be a manifest, got a config or layer"):
                act(files, [wrong, image])
