"""Values that the inference chart refuses, each with a line that names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.chart import CHART, EVERYTHING, ONE_MODEL, PRESET, Object, run_helm

HEX = "2" * 64
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def refusal(tmp_path: Path, *layers: Object) -> str:
    """Give what Helm says to these values, added to those of one model."""
    arguments = ["template", "inference", str(CHART)]
    for number, layer in enumerate((PRESET, ONE_MODEL, *layers)):
        (tmp_path / f"{number}.yaml").write_text(json.dumps(layer))
        arguments += ["--values", str(tmp_path / f"{number}.yaml")]
    done = run_helm(*arguments)
    assert done.returncode != 0, "rendered"
    assert not done.stdout
    return done.stderr


def model(**values: object) -> Object:
    return {"models": {"m": values}}


def another(**values: object) -> Object:
    one: Object = {"model": "s3://b/n", "modelName": "N", "modelType": "agent", "gpus": 1}
    return {"models": {"n": one | values}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imagee": {}}, "Additional property imagee is not allowed"),
        ({"image": {"repo": "x"}}, "image: Additional property repo is not allowed"),
        (model(gpu=1), "models.m: Additional property gpu is not allowed"),
        ({"s3": {"bucket": "b"}}, "s3: Additional property bucket is not allowed"),
        ({"podSecurityContext": {"runasuser": 1}}, "Additional property runasuser"),
        ({"image": {"tag": 1}}, "image.tag: Invalid type. Expected: string, given: integer"),
        ({"image": {"tag": "a b"}}, "image.tag: Does not match pattern"),
        ({"image": {"digest": "a" * 64}}, "image.digest: Does not match pattern"),
        ({"image": {"registry": "https://r"}}, "image.registry: Does not match pattern"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image.pullPolicy must be one of"),
        (model(modelType="agnt"), 'must be one of the following: "agent", "agent_small", "comp'),
        (model(gpus=3), "models.m.gpus must be one of the following: 1, 2, 4, 8"),
        (model(gpus="4"), "models.m.gpus must be one of the following: 1, 2, 4, 8"),
        (model(model="https://b/m"), "models.m.model: Does not match pattern"),
        (model(model="s3://bucket-only"), "models.m.model: Does not match pattern"),
        (model(modelName=""), "models.m.modelName: Does not match pattern"),
        ({"models": {"n": {"gpus": 1}}}, "models.n: modelName is required"),
        (model(ingressHost="M.example.com"), "models.m.ingressHost: Does not match pattern"),
        (model(args=[8192]), "models.m.args.0: Invalid type. Expected: string"),
        (model(env=[{"nam": "A"}]), "models.m.env.0: name is required"),
        (model(startupTimeoutSeconds="1h"), "startupTimeoutSeconds: Invalid type"),
        (model(storageBytes=-1), "models.m.storageBytes: Must be greater than or equal to 0"),
        ({"models": {"Bad_Key": {}}}, 'Property name of "Bad_Key" does not match'),
        ({"models": {"k" * 51: {}}}, f'Property name of "{"k" * 51}" does not match'),
        ({"ingress": {"annotations": {"a": 443}}}, "ingress.annotations.a: Invalid type"),
        ({"release": {"manifestSha256": "2" * 63}}, "release.manifestSha256: Does not match"),
        ({"checkpointVolume": {"nodeCache": "mnt/c"}}, "nodeCache: Does not match pattern"),
        ({"checkpointVolume": {"nodeCache": "/mnt/../etc"}}, "nodeCache: Does not match pattern"),
        ({"s3": {"endpoint": "s3.example.com"}}, "s3.endpoint: Does not match pattern"),
        ({"caBundle": {"pem": "/etc/ca.crt"}}, "caBundle.pem: Does not match pattern"),
        ({"strategy": {"type": "Roll"}}, "strategy.type must be one of"),
        ({"fullnameOverride": "1st"}, "fullnameOverride: Does not match pattern"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser: Must be greater than or equal to 1"),
        ({"modelTypes": {"chat": []}}, "modelTypes: Additional property chat is not allowed"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named(values: Object, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, values)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"image": {"registry": ""}}], "image.registry is empty: set it to the registry that"),
        ([{"image": {"tag": ""}}], "image.tag and image.digest are empty"),
        (
            [{"downloader": {"image": {"tag": ""}}}],
            "downloader.image.tag and downloader.image.digest are empty",
        ),
        (
            [{"docs": {"enabled": True, "image": {"tag": ""}}}],
            "docs.image.tag and docs.image.digest are empty",
        ),
        (
            [model(ingressHost="a.example.com"), another(ingressHost="a.example.com")],
            'models.m.ingressHost and models.n.ingressHost are both "a.example.com"',
        ),
        (
            [
                model(ingressHost="a.example.com"),
                {"docs": {"enabled": True, "ingressHost": "a.example.com"}},
            ],
            'docs.ingressHost and models.m.ingressHost are both "a.example.com"',
        ),
        (
            [{"ingress": {"enabled": True}}],
            "models.m.ingressHost is empty but ingress.enabled is true",
        ),
        (
            [{"release": {"manifestSha256": HEX}}, model(checkpoint="m")],
            "release.manifestSha256 is set but release.manifest is empty",
        ),
        (
            [{"release": {"manifestSha256": HEX, "manifest": "s3://b/MANIFEST.json"}}],
            "models.m.checkpoint is empty but release.manifestSha256 is set",
        ),
        (
            [{"release": {"manifest": "s3://b/MANIFEST.json"}}],
            "release.manifest is set but release.manifestSha256 is empty",
        ),
        (
            [{"checkpointVolume": {"nodeCache": "/mnt/checkpoints"}}],
            "checkpointVolume.nodeCache is set but release.manifestSha256 is empty",
        ),
        (
            [{"caBundle": {"pem": PEM, "configMapName": "x"}}],
            "caBundle.pem and caBundle.configMapName are both set",
        ),
        (
            [{"preStopSleepSeconds": 120}],
            "preStopSleepSeconds must be less than terminationGracePeriodSeconds",
        ),
        (
            [{"fullnameOverride": "f" * 53, "models": {"k" * 10: another()["models"]["n"]}}],
            "is longer than 63 characters",
        ),
        (
            [{"docs": {"enabled": True}, "models": {"docs": another()["models"]["n"]}}],
            "models.docs: that name belongs to the documentation site",
        ),
        ([model(args=["--api-key=secret"])], "models.m.args: --api-key is set by the chart"),
        ([model(args=["--port", "1"])], "models.m.args: --port is set by the chart"),
    ],
)
def test_a_contradiction_gets_one_clear_line(
    layers: list[Object], message: str, tmp_path: Path
) -> None:
    said = refusal(tmp_path, *layers)
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("Error:")]) == 1


def test_a_chart_without_models_is_refused() -> None:
    done = run_helm("template", "x", str(CHART))
    assert "models is empty: name at least one model" in done.stderr


def test_a_secret_in_the_arguments_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, model(args=["--api-key=hunter2"]))


@pytest.mark.parametrize(
    ("version", "accepted"), [("1.28.9", False), ("1.29.0", True), ("v1.29.1-eks-7f9249a", True)]
)
def test_clusters_older_than_1_29_are_refused(version: str, accepted: bool) -> None:
    done = run_helm(
        "template", "x", str(CHART), "--kube-version", version, "--values", str(EVERYTHING)
    )
    assert (done.returncode == 0) is accepted, done.stderr
    assert accepted or "incompatible with Kubernetes v1.28.9" in done.stderr
