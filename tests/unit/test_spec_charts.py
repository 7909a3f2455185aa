"""Charts of others in specs, locks and manifests: read strictly, written as they were read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundler.digest import Digest
from bundler.document import Document
from bundler.errors import MalformedError
from bundler.image_reference import ImageField
from bundler.lock_charts import (
    LockedChartImage,
    LockedThirdPartyChart,
    LockedValues,
    describe_chart,
)
from bundler.lock_images import LockedImage
from bundler.lockfile import check_lock, decode_lock, encode_lock
from bundler.manifest import Chart
from bundler.manifest_charts import ChartRules, NotImage, from_chart, to_chart
from bundler.reference import ImageTag
from bundler.source import FetchOptions
from bundler.spec_charts import ThirdPartyChart, read_third_party_chart
from tests.unit.test_lockfile import LOCK, SPEC

SOME = Digest.of(b"some")
RULES = ChartRules(
    kube_version="1.30.0",
    api_versions=("monitoring.coreos.com/v1", "g/v1/Kind"),
    image_fields=(ImageField.parse("Backup:spec.tool"),),
    starts_later=("q.io/later:1",),
    not_images=(NotImage("q.io/no:1", "a host and port"),),
)
FULL = {
    "source": "charts/a-1.tgz",
    "name": "mine",
    "sha256": SOME.hex,
    "values": "a.yaml",
    "images": "discover",
    "startsLater": ["docker://q.io/later:1"],
    "imageFields": ["Backup:spec.tool"],
    "notImages": [{"image": "q.io/no:1", "reason": "a host and port"}],
    "names": {"q.io/x:1": "app", "q.io/y:1": "app-y:2"},
    "kubeVersion": "1.30.0",
    "apiVersions": ["monitoring.coreos.com/v1", "g/v1/Kind"],
    "platform": "all",
    "attached": False,
    "plainHttp": True,
}
LEAST = {"source": "a.tgz", "images": "discover", "startsLater": []}


def read(value: object) -> ThirdPartyChart:
    return read_third_party_chart(Document("spec", value).table())


def test_every_field_is_read() -> None:
    assert read(FULL) == ThirdPartyChart(
        source="charts/a-1.tgz",
        name="mine",
        digest=SOME,
        values="a.yaml",
        rules=RULES,
        names={"q.io/x:1": "app", "q.io/y:1": "app-y:2"},
        fetch=FetchOptions(platform=None, attached=False, plain_http=True),
    )


def test_little_is_needed() -> None:
    assert read(LEAST) == ThirdPartyChart(source="a.tgz")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "charts/a"}, "helm package"),
        ({"source": "/a.tgz"}, "relative"),
        ({"images": "all"}, "discover"),
        ({"images": None}, "missing"),
        ({"startsLater": None}, "missing"),
        ({"startsLater": ["not a reference"]}, "not a reference"),
        ({"imageFields": ["x"]}, "not a field"),
        ({"notImages": [{"image": "a"}]}, "reason"),
        ({"notImages": [{"image": "a", "reason": "b"}, {"image": "a", "reason": "c"}]}, "twice"),
        (
            {"startsLater": ["a"], "notImages": [{"image": "a", "reason": "b"}]},
            "in startsLater, and in notImages too",
        ),
        ({"names": {"q.io/x:1": "A"}}, "not an image name"),
        ({"names": {"no reference": "a"}}, "not a reference"),
        ({"names": {"q.io/x:1": "app:a__b"}}, "not an image tag"),
        ({"kubeVersion": "--help"}, "not a version of Kubernetes"),
        ({"apiVersions": ["-x"]}, "not a version of an API"),
        ({"sha256": "x"}, "64"),
        ({"platform": "linux"}, "platform"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_what_breaks_a_rule_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(MalformedError, match=told):
        read({**LEAST, **change})


LOCKED = LockedThirdPartyChart(
    source="a.tgz",
    name="a",
    version="1.0.0",
    digest=SOME,
    values=LockedValues(path="a.yaml", digest=SOME),
    rules=RULES,
    images=(
        LockedChartImage(
            reference="q.io/x:1", tag=ImageTag("xx", "1"), digest=SOME, found_in=("Pod/x main",)
        ),
    ),
)
IMAGE = LockedImage(
    tag=ImageTag("xx", "1"),
    source="docker://q.io/xx:1",
    platform="linux/amd64",
    source_digest=SOME,
    digest=SOME,
    attached=(),
)
CHART = ThirdPartyChart(source="a.tgz", values="a.yaml", rules=RULES)


def test_a_lock_is_read_as_it_was_written() -> None:
    lock = replace(LOCK, charts=(LOCKED, replace(LOCKED, source="b.tgz", name="b", values=None)))
    assert decode_lock(encode_lock(lock), name="lock") == lock


def test_a_lock_whose_image_is_no_reference_is_refused() -> None:
    content = encode_lock(replace(LOCK, charts=(LOCKED,)))
    with pytest.raises(MalformedError, match="not a reference"):
        decode_lock(content.replace(b"q.io/x:1", b"q.io/X:1"), name="lock")


def test_a_lock_of_other_charts_is_refused() -> None:
    image = replace(LOCKED.images[0], reference="q.io/xx:1")
    lock = replace(LOCK, images=(*LOCK.images, IMAGE), charts=(replace(LOCKED, images=(image,)),))
    spec = replace(SPEC, charts=(CHART,))
    check_lock(lock, spec, name="lock")
    for other in (
        replace(CHART, source="b.tgz"),
        replace(CHART, values=None),
        replace(CHART, rules=replace(RULES, starts_later=())),
        replace(CHART, rules=replace(RULES, kube_version=None)),
        replace(CHART, names={"q.io/xx:1": "another"}),
        replace(CHART, fetch=FetchOptions(platform=None)),
        replace(CHART, fetch=FetchOptions(attached=False)),
    ):
        with pytest.raises(MalformedError) as caught:
            check_lock(lock, replace(spec, charts=(other,)), name="lock")
        assert "bundle lock" in str(caught.value.hint)
    with pytest.raises(MalformedError, match="lock says nothing"):
        check_lock(LOCK, spec, name="lock")


def test_spec_and_lock_tell_a_chart_alike() -> None:
    assert describe_chart(CHART) == LOCKED.described
    assert describe_chart(ThirdPartyChart(source="a.tgz")) == "its own values"


ARCHIVE = Chart(
    name="a",
    version="1.0.0",
    path="charts/a-1.0.0.tgz",
    digest=SOME,
    values="charts/a.values.yaml",
    rules=RULES,
)


def test_a_manifest_keeps_what_a_chart_is_rendered_with() -> None:
    assert to_chart(Document("m", from_chart(ARCHIVE)).table()) == ARCHIVE
    plain = replace(ARCHIVE, values=None, rules=ChartRules())
    assert to_chart(Document("m", from_chart(plain)).table()) == plain


def test_a_chart_of_ours_is_written_as_it_ever_was() -> None:
    own = Chart(name="a", version="1", path="charts/a", digest=SOME)
    assert list(from_chart(own)) == ["name", "version", "path", "sha256"]
    assert to_chart(Document("m", from_chart(own)).table()) == own


@pytest.mark.parametrize("change", [{"values": "x.yaml"}, {"rules": RULES}])
def test_only_an_archive_has_values(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="archive"):
        replace(Chart(name="a", version="1", path="charts/a", digest=SOME), **change)  # type: ignore[arg-type]


def test_an_archive_and_its_values_have_to_be_in_the_bundle() -> None:
    here = {ARCHIVE.path: (1, SOME), "charts/a.values.yaml": (1, SOME)}
    ARCHIVE.check_files(here)
    for files in (
        {ARCHIVE.path: (1, SOME)},
        {"charts/a.values.yaml": (1, SOME)},
        here | {ARCHIVE.path: (1, Digest.of(b"other"))},
    ):
        with pytest.raises(ValueError, match="in the bundle"):
            ARCHIVE.check_files(files)
