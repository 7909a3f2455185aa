from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.errors import CheckError, MalformedError
from bundler.manifest import Blob, BundleFile, Image, Manifest, Model
from bundler.publish.closure import check_closure, check_installed
from bundler.publish.layout import lay_out, pinned_image
from bundler.publish.values import encode_values, make_values
from bundler.reference import ImageTag, S3Prefix
from bundler.target import (
    DocsTarget,
    IngressTarget,
    ModelTarget,
    RegistryTarget,
    S3Target,
    SecretSource,
    ServiceAccountTarget,
    Target,
)
from bundler.yamltext import read_yaml
from tests import own_chart
from tests.unit.small_files import SOME, small_manifest

MANIFEST_DIGEST = Digest.of(b"manifest")
CHART_VALUES = {
    "image": {"registry": "", "name": "atlas", "tag": "1"},
    "downloader": {"image": {"name": "model-downloader", "tag": "2"}},
    "docs": {"image": {"name": "public-docs", "tag": "3"}},
}
TARGET = Target(
    registry=RegistryTarget(host="registry.example.com/team"),
    s3=S3Target(place=S3Prefix("models", "llm")),
)
HOST = TARGET.registry.host


def image(name: str, tag: str) -> Image:
    digest = Digest.of(name.encode())
    return Image(
        tag=ImageTag(name, tag),
        digest=digest,
        source="docker://x/y:1",
        source_digest=digest,
        platforms=("linux/amd64",),
        blobs=(Blob(digest=digest, size=1),),
    )


def manifest() -> Manifest:
    base = small_manifest()
    images = (image("atlas", "1"), image("model-downloader", "2"), image("public-docs", "3"))
    files = tuple(
        BundleFile(path=item.tag.archive_path, offset=0, size=1, digest=SOME) for item in images
    )
    second = replace(base.models[0], key="small", model_name="Small")
    return replace(
        base,
        images=images,
        bundle=replace(base.bundle, files=(own_chart.FILE, *files)),
        models=(*base.models, second),
    )


def values(target: Target = TARGET, *, ca_pem: str = "", chart: Any = CHART_VALUES) -> Any:
    of = manifest()
    layout = lay_out(of, target)
    return make_values(of, MANIFEST_DIGEST, target, layout, chart_values=chart, ca_pem=ca_pem)


def test_every_image_is_pinned_by_its_signed_digest() -> None:
    found = values()
    assert found["image"] == {"registry": HOST, "digest": str(Digest.of(b"atlas"))}
    assert found["downloader"] == {"image": {"digest": str(Digest.of(b"model-downloader"))}}
    assert found["docs"] == {"image": {"digest": str(Digest.of(b"public-docs"))}}


def test_pods_are_given_the_manifest_and_its_digest() -> None:
    assert values()["release"] == {
        "name": "demo-1.0.0",
        "manifest": "s3://models/llm/releases/demo-1.0.0/MANIFEST.json",
        "manifestSha256": MANIFEST_DIGEST.hex,
    }


def test_models_that_share_a_checkpoint_share_its_place() -> None:
    identity = manifest().checkpoint("tiny_1").identity.id16
    place = f"s3://models/llm/checkpoints/small/{identity}"
    assert {key: model["model"] for key, model in values()["models"].items()} == {
        "tiny": place,
        "small": place,
    }
    assert values()["models"]["tiny"] == {
        "model": place,
        "checkpoint": "tiny_1",
        "modelName": "Tiny",
        "modelType": "completion",
        "gpus": 1,
        "storageBytes": 4,
    }


def test_a_bucket_without_prefix_has_no_empty_segment() -> None:
    target = replace(TARGET, s3=S3Target(place=S3Prefix("models", "")))
    assert values(target)["release"]["manifest"].startswith("s3://models/releases/demo-1.0.0/")


def test_what_the_target_does_not_say_is_left_to_the_chart() -> None:
    assert sorted(values()) == ["docs", "downloader", "image", "models", "release"]


def test_everything_that_the_target_says_is_there() -> None:
    target = replace(
        TARGET,
        s3=S3Target(
            place=S3Prefix("models", ""),
            region="eu-1",
            endpoint="https://s3",
            credentials=SecretSource(name="aws"),
        ),
        api_key=SecretSource(name="vllm-auth", from_file=Path("never-read")),
        service_account=ServiceAccountTarget(create=False, name="x", annotations={"a": "b"}),
        ingress=IngressTarget(class_name="alb", annotations={"c": "d"}),
        image_pull_secrets=("login",),
        docs=DocsTarget(enabled=True, ingress_host="docs.example.com"),
        models=(ModelTarget(key="tiny", gpus=2, ingress_host="tiny.example.com"),),
    )
    found = values(target, ca_pem="PEM")
    assert found["s3"] == {"endpoint": "https://s3", "region": "eu-1", "secretName": "aws"}
    assert found["caBundle"] == {"pem": "PEM"}
    assert found["authentication"] == {"secretName": "vllm-auth"}
    assert found["serviceAccount"] == {"create": False, "name": "x", "annotations": {"a": "b"}}
    assert found["ingress"] == {"enabled": True, "className": "alb", "annotations": {"c": "d"}}
    assert found["imagePullSecrets"] == [{"name": "login"}]
    assert found["docs"]["enabled"]
    assert found["docs"]["ingressHost"] == "docs.example.com"
    assert list(found["models"]) == ["tiny"]
    assert found["models"]["tiny"]["gpus"] == 2
    assert found["models"]["tiny"]["ingressHost"] == "tiny.example.com"


def test_values_of_the_target_are_merged_last() -> None:
    more = {"s3": {"endpoint": "https://inside"}, "models": {"tiny": {"replicas": 2}}}
    s3 = S3Target(place=S3Prefix("models", ""), endpoint="https://outside", region="r")
    found = values(replace(TARGET, s3=s3, values=more))
    assert found["s3"] == {"endpoint": "https://inside", "region": "r"}
    assert found["models"]["tiny"]["replicas"] == 2
    assert found["models"]["tiny"]["checkpoint"] == "tiny_1"


def test_values_for_a_model_that_is_not_deployed_are_refused() -> None:
    target = replace(TARGET, values={"models": {"tini": {"replicas": 2}}})
    with pytest.raises(MalformedError, match=r"values\.models\.tini: .*: small, tiny"):
        values(target)


def test_a_chart_that_names_an_image_beside_the_release_is_refused() -> None:
    chart = CHART_VALUES | {"docs": {"image": {"name": "public-docs", "tag": "9"}}}
    with pytest.raises(MalformedError, match=r"docs\.image: .*got public-docs:9"):
        values(chart=chart)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelTarget(key="new", checkpoint="tiny_1"), "no model of that key"),
        (ModelTarget(key="tiny", checkpoint="other"), "has no 'other'"),
    ],
)
def test_a_target_that_does_not_fit_the_release_is_refused(
    model: ModelTarget, message: str
) -> None:
    with pytest.raises(MalformedError, match=message):
        values(replace(TARGET, models=(model,)))


def test_a_target_may_add_a_model_of_a_known_checkpoint() -> None:
    model = ModelTarget(
        key="new", checkpoint="tiny_1", model_name="New", model_type="agent", gpus=8
    )
    layout = lay_out(manifest(), replace(TARGET, models=(model,)))
    assert layout.served[0].model == Model(
        key="new", checkpoint="tiny_1", model_name="New", model_type="agent", gpus=8
    )


def test_the_file_says_where_it_comes_from_and_reads_back() -> None:
    made = values()
    content = encode_values(made, manifest(), TARGET)
    assert b"# Values of demo-1.0.0, generated by" in content
    assert read_yaml(content, name="values").value == made


def test_the_file_has_the_command_for_plain_helm_with_the_charts_own_path() -> None:
    base = manifest()
    chart = replace(base.own_chart, path="charts/other")
    bundle = replace(
        base.bundle,
        files=tuple(
            replace(file, path=file.path.replace(base.own_chart.path, chart.path))
            for file in base.bundle.files
        ),
    )
    content = encode_values({}, replace(base, charts=(chart,), bundle=bundle), TARGET).decode()
    assert "helm upgrade --install inference ./charts/other --namespace poolside-models" in content


def deployment(*images: str) -> dict[str, Any]:
    containers = [{"name": f"c{n}", "image": item} for n, item in enumerate(images)]
    return {
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


def test_the_closure_gives_the_images_that_are_named() -> None:
    of = manifest()
    named = [pinned_image(HOST, item) for item in (of.images[2], of.images[0], of.images[0])]
    assert check_closure([deployment(*named)], of, HOST) == (of.images[0], of.images[2])


@pytest.mark.parametrize(
    "stranger",
    [
        f"{HOST}/atlas:1",
        f"other.example.com/atlas@{Digest.of(b'atlas')}",
        f"{HOST}/atlas@{SOME}",
        f"{HOST}/public-docs@{Digest.of(b'atlas')}",
        "",
    ],
)
def test_the_closure_refuses_all_but_signed_images_by_digest(stranger: str) -> None:
    good = pinned_image(HOST, manifest().images[0])
    with pytest.raises(CheckError, match=r"Deployment/d, c1: "):
        check_closure([deployment(good, stranger)], manifest(), HOST)


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ({"kind": "Engine", "spec": {"image": "docker.io/spy:1"}}, "Engine/x, spec.image"),
        ({"kind": "ConfigMap", "data": {"a": "docker.io/spy:1"}}, "ConfigMap/x, data.a"),
        (
            {"kind": "Pod", "spec": {"containers": [{"args": ["--image=docker.io/spy:1"]}]}},
            r"Pod/x, spec\.containers\[0\]\.args\[0\]",
        ),
    ],
)
def test_the_closure_refuses_settings_that_name_other_images(
    item: dict[str, Any], place: str
) -> None:
    stranger = {**item, "metadata": {"name": "x"}}
    for check in (check_closure, check_installed):
        with pytest.raises(CheckError, match=rf"{place}: docker\.io/spy:1") as caught:
            check([stranger], manifest(), HOST)
        assert caught.value.exit_status == 8


@pytest.mark.parametrize("text", ["1e3", "007", "0x10", "12:30", "2026-11-01", "y", "No", ".5"])
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    made: dict[str, object] = {"models": {text: {"modelName": text}}}
    content = encode_values(made, manifest(), TARGET).decode()
    assert content.count(f'"{text}"') == 2
    assert read_yaml(content.encode(), name="values").value == made
