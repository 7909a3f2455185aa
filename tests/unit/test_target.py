from __future__ import annotations

import re
from pathlib import Path

import pytest

from bundler.errors import MalformedError
from bundler.object_settings import ObjectSettings
from bundler.reference import S3Prefix
from bundler.target import EcrTarget, Target
from bundler.target_placeholders import require_filled_in
from bundler.target_reader import read_target, target_template
from bundler.yamltext import read_yaml

HEAD = """\
formatVersion: 1
registry: {host: registry.example.com}
s3: {bucket: models}
"""
ECR = "111122223333.dkr.ecr.us-gov-west-1.amazonaws.com"
ZEROS = "arn:aws:kms:eu-west-1:222233334444:key/00000000-0000-0000-0000-000000000000"
EVERYTHING = """\
formatVersion: 1
registry:
  host: registry.example.com:5000/team
  ca: ca.pem
  clientCertificate: client.pem
  clientKey: /keys/client.pem
  authFile: /a.json
  tokenServer: http://auth.example.com:8080/
  plainHttp: true
  ecr:
    region: eu-central-1
    endpoint: https://ecr.example.com
    create: false
    scanOnPush: true
    immutableTags: false
    kmsKey: arn:aws:kms:eu-central-1:111122223333:key/k
    tags: {team: inference, empty: ""}
    lifecyclePolicy: lifecycle.json
    policy: /policy.json
s3:
  bucket: models
  prefix: a/b/
  region: eu-central-1
  endpoint: https://s3.example.com:9000/
  ca: certificates/s3.pem
  credentials: {secretName: aws-credentials, fromFile: aws.env}
kubernetes: {kubeconfig: k.yaml, context: prod, namespace: ns, release: llm, timeoutSeconds: 60}
apiKey: {secretName: key, fromFile: key.txt}
serviceAccount: {create: false, name: inference, annotations: {role: "arn:x"}}
ingress: {className: alb, annotations: {scheme: internal, empty: ""}}
imagePullSecrets: [one, two]
docs: {enabled: true, ingressHost: docs.example.com}
models:
  point: {ingressHost: point.example.com}
  laguna: {checkpoint: l_1, modelName: L, modelType: agent, gpus: 4, ingressHost: l.example.com}
values: {nodeSelector: {pool: gpu}, models: {point: {replicas: 2}}}
"""


def read(text: str) -> Target:
    return read_target(read_yaml(text.encode(), name="target.yaml"), base=Path("/home/operator"))


def test_a_short_target_has_the_defaults_of_the_guide() -> None:
    target = read(HEAD)
    assert (target.kubernetes.namespace, target.kubernetes.release) == (
        "poolside-models",
        "inference",
    )
    assert target.models is None
    assert target.api_key is None
    assert not target.serves_hosts


def test_every_field_is_read() -> None:
    target = read(EVERYTHING)
    assert target.s3.place == S3Prefix("models", "a/b")
    assert target.s3.endpoint == "https://s3.example.com:9000"
    assert target.s3.credentials is not None
    assert target.s3.credentials.name == "aws-credentials"
    assert target.kubernetes.timeout_seconds == 60
    assert target.service_account is not None
    assert not target.service_account.create
    assert target.ingress is not None
    assert target.ingress.annotations == {"scheme": "internal", "empty": ""}
    assert target.image_pull_secrets == ("one", "two")
    assert target.models is not None
    point, laguna = target.models
    assert (point.key, point.checkpoint, point.gpus) == ("point", None, None)
    assert (laguna.model_type, laguna.gpus, laguna.ingress_host) == ("agent", 4, "l.example.com")
    assert target.values["models"] == {"point": {"replicas": 2}}


def test_every_field_of_the_registry_is_read() -> None:
    registry = read(EVERYTHING).registry
    assert registry.client_certificate == Path("/home/operator/client.pem")
    assert registry.client_key == Path("/keys/client.pem")
    assert registry.token_server == "http://auth.example.com:8080"
    assert registry.ecr == EcrTarget(
        region="eu-central-1",
        endpoint="https://ecr.example.com",
        create=False,
        scan_on_push=True,
        immutable_tags=False,
        kms_key="arn:aws:kms:eu-central-1:111122223333:key/k",
        tags={"team": "inference", "empty": ""},
        lifecycle_policy=Path("/home/operator/lifecycle.json"),
        policy=Path("/policy.json"),
    )


def test_what_ecr_decides_by_itself_is_left_open() -> None:
    assert read(HEAD).registry.ecr is None
    host = f"{ECR}/team"
    assert read(HEAD.replace("registry.example.com", f"{host}, ecr: {{}}")).registry.ecr == (
        EcrTarget()
    )
    named = read(HEAD.replace("registry.example.com", f"{host}, ecr: {{fips: true}}"))
    assert named.registry.ecr == EcrTarget(fips=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("storageClass: GLACIER", "pods could not read objects of an archive class"),
        ("storageClass: standard", "not a storage class"),
        ("bucketKey: false", "goes with kmsKey"),
        ("tags: {a: b&c}", "expected at most 256 letters"),
        ("tags: {" + ", ".join(f"t{n}: x" for n in range(11)) + "}", "expected at most 10, got 11"),
        (f"tags: {{a: {'x' * 257}}}", "expected at most 256 letters"),
        (f"tags: {{{'x' * 129}: a}}", "expected at most 128 letters"),
        ('tags: {"": a}', "expected a key"),
    ],
)
def test_what_no_bucket_takes_is_refused(fields: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        read(HEAD.replace("models}", f"models, {fields}}}"))


def test_how_objects_are_kept_is_read() -> None:
    key = "arn:aws:kms:eu-central-1:111122223333:key/1"
    fields = f"kmsKey: '{key}', bucketKey: false, storageClass: STANDARD_IA, tags: {{team: a b}}"
    target = read(HEAD.replace("models}", f"models, {fields}}}"))
    assert target.s3.objects == ObjectSettings(
        kms_key=key, bucket_key=False, storage_class="STANDARD_IA", tags={"team": "a b"}
    )
    assert read(HEAD).s3.objects == ObjectSettings()


def test_paths_are_relative_to_the_target_file() -> None:
    target = read(EVERYTHING)
    assert target.s3.ca == Path("/home/operator/certificates/s3.pem")
    assert target.registry.auth_file == Path("/a.json")
    assert target.kubernetes.kubeconfig == Path("/home/operator/k.yaml")


@pytest.mark.parametrize("text", ["apiKey:", "apiKey: {}", "apiKey: {secretName: vllm-auth}"])
def test_an_empty_api_key_section_still_asks_for_a_key(text: str) -> None:
    target = read(HEAD + text)
    assert target.api_key is not None
    assert target.api_key.name == "vllm-auth"


def test_one_host_is_enough_to_ask_for_ingresses() -> None:
    assert read(HEAD + "models: {point: {ingressHost: p.example.com}}").serves_hosts


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (HEAD + "registri: {}", "4:1", "unknown field"),
        (HEAD + "models: {point: {gpu: 1}}", "4:18", "unknown field"),
        (HEAD + "models: {point: {gpus: 3}}", "4:18", "one of 1, 2, 4, 8, got 3"),
        (HEAD + "models: {point: {gpus: '4'}}", "4:18", "expected an integer"),
        (HEAD + "models: {point: {modelType: chat}}", "4:18", "expected one of agent"),
        (HEAD + "models: {Point: {}}", "4:10", "not a model key"),
        (HEAD + "models: {}", "4:1", "names no model"),
        (HEAD + "models: {point: {}, point: {}}", "4:21", "stands there twice"),
        (HEAD + "apiKey: {secretName: Key}", "4:10", "not a name of a Kubernetes object"),
        (HEAD + "kubernetes: {timeoutSeconds: 0}", "4:14", "expected 1 to"),
        (HEAD + "docs: {ingressHost: d.example.com}", "4:8", "docs.enabled"),
        (HEAD + "values: {release: {name: x}}", "4:1", "may not set release"),
        (HEAD + "values: {image: {digest: x}}", "4:1", "may not set image.digest"),
        (HEAD + "values: {models: {a: {model: x}}}", "4:1", "may not set models.a.model"),
        (HEAD.replace("bucket: models", "bucket: Models"), "3:1", "not a bucket name"),
        (HEAD.replace("models}", "models, endpoint: s3.example.com}"), "3:22", "not an endpoint"),
        (
            HEAD.replace("models}", "models, endpoint: 'https://me:word@s3'}"),
            "3:22",
            "s3.endpoint: an endpoint with a login in it; expected https://HOST[:PORT]",
        ),
        (HEAD.replace("registry.example.com", "https://r"), "2:12", "not a registry"),
        (HEAD.replace("1", "2", 1), "1:1", "expected 1 to 1, got 2"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_place(text: str, place: str, message: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(message)) as caught:
        read(text)
    assert str(caught.value).startswith(f"target.yaml:{place}: ")


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ("host: r.example.com, clientKey: k", "clientCertificate: goes with clientKey"),
        ("host: r.example.com, clientCertificate: c", "clientCertificate: goes with clientKey"),
        ("host: r.example.com, tokenServer: auth", "tokenServer: not an endpoint"),
        ("host: r.example.com, tokenServer: http://a", "tokenServer: expected https://"),
        ("host: r.example.com, ecr: {}", "ecr.region: missing: registry.host has none"),
        (f"host: {ECR}, plainHttp: true", "plainHttp: Amazon ECR speaks TLS only"),
        (f"host: {ECR}, ecr: {{scan: true}}", "ecr.scan: unknown field"),
        (f"host: {ECR}, ecr: {{create: 1}}", "ecr.create: expected true or false"),
        (f"host: {ECR}, ecr: {{region: eu-west-1}}", "ecr.region: expected us-gov-west-1"),
        (f"host: {ECR}, ecr: {{fips: true, endpoint: http://a}}", "ecr.fips: is given beside"),
    ],
)
def test_what_breaks_a_rule_of_the_registry_is_refused(registry: str, message: str) -> None:
    text = HEAD.replace("host: registry.example.com", registry)
    with pytest.raises(MalformedError, match=re.escape(f": registry.{message}")):
        read(text)


def test_two_models_with_one_hostname_are_refused() -> None:
    text = "models: {a: {ingressHost: h.example.com}, b: {ingressHost: h.example.com}}"
    with pytest.raises(MalformedError, match=r"models\.a and models\.b have one ingressHost: h\."):
        read(HEAD + text)


def test_two_secrets_of_one_name_are_refused() -> None:
    s3 = HEAD.replace("models}", "models, credentials: {secretName: vllm-auth}}")
    with pytest.raises(MalformedError, match="one secret: vllm-auth"):
        read(s3 + "apiKey: {}")


def test_a_model_and_the_documentation_with_one_hostname_are_refused() -> None:
    docs = "docs: {enabled: true, ingressHost: h.example.com}\n"
    with pytest.raises(MalformedError, match=r"models\.a and docs have one ingressHost"):
        read(HEAD + docs + "models: {a: {ingressHost: h.example.com}}")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("ingress: {}\nmodels: {a: {}, b: {ingressHost: b.example.com}}", "missing for a"),
        ("models: {a: {}, b: {ingressHost: b.example.com}}", "missing for a"),
        ("ingress: {className: alb}", "as models is not given"),
    ],
)
def test_with_ingress_every_model_needs_its_hostname(text: str, missing: str) -> None:
    with pytest.raises(MalformedError, match=missing):
        read(HEAD + text)


def test_the_template_is_a_target() -> None:
    target = read(target_template().decode())
    assert target.api_key is not None
    assert target.models is None


def everything_on() -> str:
    """Give the template with all that is commented out."""
    option = re.compile(r"^( *)# ((?: *)(?:[a-zA-Z.\-/]+:(?: .*)?))$", re.MULTILINE)
    return option.sub(r"\1\2", target_template().decode())


def placeholders(text: str) -> list[str]:
    try:
        require_filled_in(read_yaml(text.encode(), name="target.yaml"))
    except MalformedError as error:
        return str(error).splitlines()
    return []


def test_every_placeholder_that_was_left_is_told_with_its_line() -> None:
    template = target_template().decode()
    host, bucket = placeholders(template)
    line = next(n for n, text in enumerate(template.splitlines(), 1) if "host: reg" in text)
    assert host.startswith(f"target.yaml:{line}:3: registry.host: registry.example.com is the")
    assert ": s3.bucket: example-models is" in bucket
    left = {line.split(": ")[1] for line in placeholders(everything_on())}
    assert left >= {
        "registry.host",
        "registry.tokenServer",
        "registry.ecr.endpoint",
        "registry.ecr.kmsKey",
        "s3.bucket",
        "s3.endpoint",
        "serviceAccount.annotations.eks.amazonaws.com/role-arn",
        "docs.ingressHost",
        "models.laguna-xs.ingressHost",
    }


def test_nothing_in_the_template_looks_like_an_example_and_is_not_known_as_one() -> None:
    left = {line.split(": ")[1] for line in placeholders(everything_on())}
    document = read_yaml(everything_on().encode(), name="target.yaml")
    for path, (line, _) in document.positions.items():
        written = everything_on().splitlines()[line - 1]
        value = written.partition(": ")[2]
        if "example" in value or "1111" in value:
            assert ".".join(map(str, path)) in left, written


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("registry.example.com", "registry.example.com.corp.local"),
        HEAD.replace("registry.example.com", "counterexample.com"),
        HEAD.replace("registry.example.com", "r.local") + "values: {note: example.com}",
        HEAD.replace("registry.example.com", "r.local").replace(
            "models}", f"models, kmsKey: '{ZEROS}'}}"
        ),
    ],
)
def test_what_is_the_operators_own_is_no_placeholder(text: str) -> None:
    assert placeholders(text) == []


def test_every_option_of_the_template_can_be_switched_on() -> None:
    text = everything_on()
    target = read(text)
    assert target.registry.ecr is not None
    assert target.registry.client_key is not None
    assert target.s3.credentials is not None
    assert target.service_account is not None
    assert target.ingress is not None
    assert target.docs.enabled
    assert target.models is not None
    assert target.values == {"nodeSelector": {"pool": "gpu"}}
