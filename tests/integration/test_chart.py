"""What the inference chart renders from values."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.integration.chart import (
    CHART,
    EVERYTHING,
    GUIDE,
    ONE_MODEL,
    Object,
    downloader,
    environment,
    helm,
    named,
    pod,
    render,
    secret_key,
    server,
    template,
)

DIGEST = "sha256:" + "a" * 64
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def guide() -> list[Object]:
    return render(GUIDE)


@pytest.fixture(scope="module")
def everything() -> list[Object]:
    return render(EVERYTHING)


def test_the_guides_example_makes_three_objects_a_model_and_one_account(
    guide: list[Object],
) -> None:
    kinds = ("Deployment", "Ingress", "Service")
    models = ("inference-laguna-m", "inference-laguna-xs", "inference-point")
    assert sorted((o["kind"], o["metadata"]["name"]) for o in guide) == sorted(
        [("ServiceAccount", "inference"), *((kind, model) for kind in kinds for model in models)]
    )


def test_the_guides_values_mean_what_the_guide_says(guide: list[Object]) -> None:
    values = yaml.safe_load(GUIDE.read_text())
    registry = values["image"]["registry"]
    account = named(guide, "ServiceAccount", "inference")
    assert account["metadata"]["annotations"] == values["serviceAccount"]["annotations"]
    for key, model in values["models"].items():
        name = f"inference-{key}"
        assert pod(guide, name)["serviceAccountName"] == "inference"
        assert server(guide, name)["image"] == f"{registry}/atlas:a1"
        assert downloader(guide, name)["image"] == f"{registry}/model-downloader:d1"
        gpus = {"nvidia.com/gpu": model["gpus"]}
        assert server(guide, name)["resources"] == {"limits": gpus, "requests": gpus}
        key_reference = environment(server(guide, name))["VLLM_API_KEY"]
        assert key_reference == secret_key("vllm-auth", "VLLM_API_KEY")
        ingress = named(guide, "Ingress", name)
        assert ingress["metadata"]["annotations"] == values["ingress"]["annotations"]
        assert ingress["spec"]["ingressClassName"] == "alb"
        assert ingress["spec"]["rules"][0]["host"] == model["ingressHost"]


@pytest.mark.parametrize("minor", range(29, 35))
@pytest.mark.parametrize("objects", ["guide", "everything"])
def test_kubernetes_accepts_every_object(
    objects: str, minor: int, request: pytest.FixtureRequest
) -> None:
    for found in request.getfixturevalue(objects):
        assert kubernetes_validate.validate(found, f"1.{minor}", strict=True) == f"1.{minor}"


@pytest.mark.parametrize("values", [None, GUIDE, EVERYTHING])
def test_lint_finds_nothing(values: Path | None) -> None:
    arguments = ["--values", str(values)] if values else []
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, *arguments)


def test_the_same_values_give_the_same_bytes() -> None:
    assert template(EVERYTHING) == template(EVERYTHING)


@pytest.mark.parametrize(
    ("release", "override", "name"),
    [
        ("inference", "", "inference"),
        ("blue", "", "blue-inference"),
        ("inference-blue", "", "inference-blue"),
        ("blue", "inference", "inference"),
    ],
)
def test_names_follow_the_release_and_the_override(release: str, override: str, name: str) -> None:
    objects = render(ONE_MODEL, {"fullnameOverride": override}, release=release)
    assert named(objects, "ServiceAccount", name)
    assert named(objects, "Deployment", f"{name}-m")
    assert named(objects, "Service", f"{name}-m")


def test_an_account_made_elsewhere_is_used_and_not_made_again() -> None:
    objects = render(ONE_MODEL, {"serviceAccount": {"create": False, "name": "made-by-eksctl"}})
    assert pod(objects, "inference-m")["serviceAccountName"] == "made-by-eksctl"
    assert not [o for o in objects if o["kind"] == "ServiceAccount"]


def test_a_digest_wins_over_the_tag() -> None:
    image = {"image": {"digest": DIGEST}}
    objects = render(ONE_MODEL, image, {"downloader": image, "docs": image | {"enabled": True}})
    assert server(objects)["image"] == f"registry.example.com/atlas@{DIGEST}"
    assert downloader(objects)["image"] == f"registry.example.com/model-downloader@{DIGEST}"
    docs = server(objects, "inference-docs")
    assert docs["image"] == f"registry.example.com/public-docs@{DIGEST}"


def test_other_images_inherit_the_registry_unless_they_have_their_own(
    everything: list[Object],
) -> None:
    assert server(everything, "llm-docs")["image"] == "registry.example.com:5000/ai/public-docs:v8"
    assert downloader(everything, "llm-big")["image"] == "other.example.com/fetcher:v9"


@pytest.mark.parametrize(
    ("name", "indent"), [("atlas", 2), ("model-downloader", 4), ("public-docs", 4)]
)
def test_build_finds_names_and_tags_as_plain_lines(name: str, indent: int) -> None:
    lines = "".join(f"{' ' * indent}{line}\n" for line in (f'name: "{name}"', 'tag: ""'))
    assert (CHART / "values.yaml").read_text().count(lines) == 1
    assert len(re.findall(r"^version: \S+$", (CHART / "Chart.yaml").read_text(), re.M)) == 1


@pytest.mark.parametrize(
    ("model_type", "defaults"),
    [
        ("agent", ["131072", "64"]),
        ("agent_small", ["32768", "16"]),
        ("completion", ["16384", "128"]),
    ],
)
def test_the_server_gets_the_arguments_of_its_model_type_then_its_own(
    model_type: str, defaults: list[str]
) -> None:
    own = {"models": {"m": {"modelType": model_type, "args": ["--max-num-seqs", "7"]}}}
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "poolside_v1"]
    agent = [*tools, "--reasoning-parser", "poolside_v1"] if model_type != "completion" else []
    assert server(render(ONE_MODEL, own))["args"] == [
        *("--model", "/models/checkpoint", "--served-model-name", "M"),
        *("--host", "0.0.0.0", "--port", "8000"),
        *("--max-model-len", defaults[0], "--max-num-seqs", defaults[1], *agent),
        *("--max-num-seqs", "7"),
    ]


def test_the_server_is_offline_and_asks_for_no_key_by_default() -> None:
    assert environment(server(render(ONE_MODEL))) == {
        "HOME": "/tmp",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def test_without_a_release_the_downloader_gets_the_prefix_alone() -> None:
    container = downloader(render(ONE_MODEL))
    assert container["args"] == ["fetch", "s3://b/m", "/models/checkpoint"]
    assert environment(container) == {"HOME": "/tmp"}


def test_with_a_release_the_downloader_verifies(everything: list[Object]) -> None:
    assert downloader(everything, "llm-big")["args"] == [
        *("fetch", "s3://models/prefix/checkpoints/big/0123456789abcdef", "/models/checkpoint"),
        *("--manifest", "s3://models/prefix/releases/demo-2026.11.0/MANIFEST.json"),
        *("--manifest-sha256", "2" * 64, "--checkpoint", "big_2026.10"),
    ]


def test_the_downloader_finds_its_store(everything: list[Object]) -> None:
    assert environment(downloader(everything, "llm-big")) == {
        "HOME": "/tmp",
        "AWS_ENDPOINT_URL_S3": "https://s3.example.com:8333",
        "AWS_REGION": "eu-central-1",
        "AWS_CA_BUNDLE": "/etc/bundle/ca/ca.crt",
        "AWS_ACCESS_KEY_ID": secret_key("aws-credentials", "AWS_ACCESS_KEY_ID"),
        "AWS_SECRET_ACCESS_KEY": secret_key("aws-credentials", "AWS_SECRET_ACCESS_KEY"),
    }
    assert environment(server(everything, "llm-big"))["VLLM_API_KEY"] == secret_key(
        "keys", "api-key"
    )
    assert pod(everything, "llm-big")["imagePullSecrets"] == [{"name": "registry-login"}]


def test_an_existing_config_map_of_authorities_is_mounted(everything: list[Object]) -> None:
    volumes = {volume["name"]: volume for volume in pod(everything, "llm-big")["volumes"]}
    items = [{"key": "roots.pem", "path": "ca.crt"}]
    assert volumes["ca"]["configMap"] == {"name": "corporate", "items": items}
    assert volumes["checkpoint"]["emptyDir"] == {"sizeLimit": "500Gi"}
    assert not [o for o in everything if o["kind"] == "ConfigMap"]


def test_authorities_in_the_values_are_kept_and_a_new_one_restarts_the_pods() -> None:
    objects, renewed = (render(ONE_MODEL, {"caBundle": {"pem": PEM + x}}) for x in ("", PEM))
    assert named(objects, "ConfigMap", "inference-ca")["data"] == {"ca.crt": PEM}
    mount = {"name": "ca", "mountPath": "/etc/bundle/ca", "readOnly": True}
    assert mount in downloader(objects)["volumeMounts"]
    checksums = [
        named(o, "Deployment", "inference-m")["spec"]["template"]["metadata"]["annotations"]
        for o in (objects, renewed)
    ]
    assert checksums[0]["checksum/ca"] != checksums[1]["checksum/ca"]
