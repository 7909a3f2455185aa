"""The customer's install guide, step by step, with our bundle and without our command.

The commands are the guide's own; what stands in for its placeholders is this rehearsal's. What the
guide has and this machine cannot:

- IRSA (step 4): nothing here answers AssumeRoleWithWebIdentity for a token, so the guide's own
  alternative is taken: the secret ``aws-credentials`` and ``s3.secretName``.
- eksctl (step 4): talks to CloudFormation.
- ACM: certificates come from the rehearsal's private authority, which curl is told of.
- The AWS Load Balancer Controller: a stand-in routes by host and path from the Ingress objects.
- Amazon S3, ECR: S3 is a real server with a private authority, so that the chart is told of both;
  the two ECR calls are answered by moto, which makes no repository in the registry beside it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Built, clear
from tests.rehearsal.site import Site

pytestmark = pytest.mark.rehearsal

NAMESPACE = "by-hand"
API_KEY = "by-hand-secret"
MODELS = {
    "minilm": ("minilm_2026.10", "MiniLM", "agent_small", 1),
    "tiny-sharded": ("tiny_sharded_2026.10", "Tiny", "completion", 2),
}
PREFIX = "by-hand"


class Operator:
    """Somebody at a shell inside, in one directory, with the usual variables set."""

    def __init__(self, site: Site, directory: Path) -> None:
        self._site = site
        self.directory = directory

    def type(self, commands: str) -> str:
        """Run commands as a person would type them; every one has to succeed."""
        done = self._site.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            env=self._site.environment(),
            cwd=self.directory,
            timeout=300,
        )
        return done.stdout


@pytest.fixture(scope="module")
def operator(site: Site, release: Built, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """Extract the bundle: the guide's prerequisites."""
    media = tmp_path_factory.mktemp("media")
    for archive in release.directory.iterdir():
        (media / archive.name).symlink_to(archive)
    name = release.directory.name
    Operator(site, media).type(f"tar -xzf {name}.tar.gz")
    return Operator(site, media / name)


@pytest.fixture(scope="module")
def installed(operator: Operator, site: Site) -> Iterator[Operator]:
    """Follow the guide to its end of step 7."""
    operator.type("ls -d ./scripts/ ./containers/ ./charts/")
    step_1_namespace(operator)
    step_2_images(operator, site)
    step_3_checkpoints(operator, site)
    step_5_secrets(operator)
    step_6_values(operator, site)
    step_7_chart(operator)
    yield operator
    clear(site, NAMESPACE)


def step_1_namespace(operator: Operator) -> None:
    operator.type(f"kubectl create namespace {NAMESPACE}")


def step_2_images(operator: Operator, site: Site) -> None:
    operator.type(
        """
        for image_name in $(find ./containers -name "*.tar" -type f -exec basename {} .tar \\; \\
                            | sed 's/__.*//' | sort -u); do
          aws ecr describe-repositories --repository-names "$image_name" \\
              --region us-east-1 >/dev/null 2>&1 \\
            || aws ecr create-repository --repository-name "$image_name" --region us-east-1
        done
        """
    )
    operator.type(
        "aws ecr get-login-password --region us-east-1 "
        f"| skopeo login --username AWS --password-stdin {site.registry}"
    )
    operator.type(
        f"chmod +x ./scripts/upload_images.sh\n./scripts/upload_images.sh {site.registry}"
    )


def step_3_checkpoints(operator: Operator, site: Site) -> None:
    for key, (archive, *_) in MODELS.items():
        operator.type(
            f"""
            mkdir -p ./checkpoints/{key}
            tar -xf ../{archive}.tar -C ./checkpoints/{key} --strip-components=1
            ls ./checkpoints/{key}/config.json
            """
        )
    operator.type(
        f"aws s3 cp ./checkpoints s3://{site.bucket}/{PREFIX}/checkpoints --recursive "
        "--region us-east-1"
    )


def step_5_secrets(operator: Operator) -> None:
    operator.type(
        f"""
        kubectl create secret generic aws-credentials \\
          --from-literal=AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID \\
          --from-literal=AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY \\
          -n {NAMESPACE}
        kubectl create secret generic vllm-auth \\
          --from-literal=VLLM_API_KEY={API_KEY} \\
          -n {NAMESPACE}
        """
    )


def step_6_values(operator: Operator, site: Site) -> None:
    values = {
        "fullnameOverride": "inference",
        "image": {"registry": site.registry},
        "serviceAccount": {"create": True},
        "podSecurityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10003,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "authentication": {"secretName": "vllm-auth"},
        "ingress": {
            "enabled": True,
            "className": "alb",
            "annotations": {
                "alb.ingress.kubernetes.io/scheme": "internet-facing",
                "alb.ingress.kubernetes.io/target-type": "ip",
                "alb.ingress.kubernetes.io/listen-ports": '[{"HTTPS":443}]',
                "alb.ingress.kubernetes.io/ssl-redirect": "443",
                "alb.ingress.kubernetes.io/group.name": "poolside",
                "alb.ingress.kubernetes.io/healthcheck-path": "/health",
            },
        },
        "models": {
            key: {
                "model": f"s3://{site.bucket}/{PREFIX}/checkpoints/{key}",
                "modelName": served,
                "modelType": kind,
                "gpus": gpus,
                "ingressHost": host(key),
            }
            for key, (_, served, kind, gpus) in MODELS.items()
        },
        # Beyond the guide's example: what stands in for Amazon S3 here.
        "s3": {
            "endpoint": site.s3_endpoint,
            "region": "us-east-1",
            "secretName": "aws-credentials",
        },
        "caBundle": {"pem": site.ca_file.read_text()},
    }
    path = operator.directory / "inference_values.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def step_7_chart(operator: Operator) -> None:
    operator.type(
        f"""
        helm install inference ./charts/inference \\
          --namespace {NAMESPACE} \\
          -f ./inference_values.yaml
        """
    )
    # Step 8, and the patience that it asks for: pods, then the load balancer's own look at them.
    operator.type(
        f"""
        kubectl wait --for=condition=Available deploy --all -n {NAMESPACE} --timeout=240s
        for host in {" ".join(map(host, MODELS))}; do
          curl -s --retry 30 --retry-delay 1 https://$host/v1/models >/dev/null
        done
        """
    )


def host(key: str) -> str:
    return f"by-hand-{key}.models.rehearsal.test"


def test_step_8_an_ingress_for_each_model_has_an_address(installed: Operator) -> None:
    listed = installed.type(f"kubectl get ingress -n {NAMESPACE} -o json")
    addresses = {
        item["metadata"]["name"]: item["status"]["loadBalancer"]["ingress"]
        for item in json.loads(listed)["items"]
    }
    assert set(addresses) == {"inference-minilm", "inference-tiny-sharded"}
    assert all(addresses.values())


@pytest.mark.parametrize("key", MODELS)
def test_step_8_each_host_names_its_model(installed: Operator, key: str) -> None:
    answer = installed.type(
        f"curl -s https://{host(key)}/v1/models -H 'Authorization: Bearer {API_KEY}'"
    )
    assert [model["id"] for model in json.loads(answer)["data"]] == [MODELS[key][1]]


@pytest.mark.parametrize(
    ("key", "path", "request_body"),
    [
        ("minilm", "chat/completions", {"messages": [{"role": "user", "content": "Reverse it."}]}),
        ("tiny-sharded", "completions", {"prompt": "def reverse(text):"}),
    ],
)
def test_step_9_each_model_answers(
    installed: Operator, key: str, path: str, request_body: dict[str, object]
) -> None:
    body = json.dumps({"model": MODELS[key][1], **request_body})
    answer = json.loads(
        installed.type(
            f"curl -s https://{host(key)}/v1/{path} -H 'Content-Type: application/json' "
            f"-H 'Authorization: Bearer {API_KEY}' -d '{body}'"
        )
    )
    choice = answer["choices"][0]
    assert choice.get("text") or choice["message"]["content"]


def test_without_the_key_nobody_is_answered(installed: Operator) -> None:
    status = installed.type(
        f"curl -s -o /dev/null -w '%{{http_code}}' https://{host('minilm')}/v1/models"
    )
    assert status == "401"


def test_only_v1_is_reached_from_outside(installed: Operator) -> None:
    status = installed.type(
        f"curl -s -o /dev/null -w '%{{http_code}}' https://{host('minilm')}/version"
    )
    assert status == "404"


def test_the_downloader_names_an_archive_that_was_uploaded_in_place_of_its_contents(
    installed: Operator, site: Site
) -> None:
    """The guide's last troubleshooting entry; the pod's own program, run here in a shell."""
    installed.type(
        f"aws s3 cp ../tiny_sharded_2026.10.tar s3://{site.bucket}/{PREFIX}/wrong/tiny.tar "
        "--region us-east-1"
    )
    with pytest.raises(subprocess.CalledProcessError, match=r"tiny\.tar"):
        installed.type(f"bundle fetch s3://{site.bucket}/{PREFIX}/wrong ./nowhere")
