"""The target file: from YAML, held to its rules, to the types of ``bundler.target``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from bundler.document import Document, Table
from bundler.manifest import GPU_COUNTS, MODEL_TYPES
from bundler.object_settings import read_object_settings
from bundler.reference import (
    S3Prefix,
    ecr_host,
    endpoint,
    hostname,
    model_key,
    namespace,
    registry_host,
)
from bundler.target import (
    DEFAULT_NAMESPACE,
    DEFAULT_RELEASE,
    DEFAULT_TIMEOUT_SECONDS,
    DocsTarget,
    EcrTarget,
    IngressTarget,
    KubernetesTarget,
    ModelTarget,
    RegistryTarget,
    S3Target,
    SecretSource,
    ServiceAccountTarget,
    Target,
    object_name,
)

_API_KEY_NAME = "vllm-auth"
_MAX_TIMEOUT_SECONDS = 7 * 24 * 3600
_REGION = re.compile(r"[a-z0-9-]{1,40}")
# What publish sets itself, from what was signed: nobody sets it by `values`.
_PUBLISH_SETS = (
    ("image", "registry"),
    ("image", "name"),
    ("image", "tag"),
    ("image", "digest"),
    ("downloader", "image"),
    ("docs", "image"),
    ("release",),
    ("models", "*", "model"),
    ("models", "*", "checkpoint"),
)


def target_template() -> bytes:
    """Give the commented target file that an operator starts from."""
    return resources.files("bundler").joinpath("target_template.yaml").read_bytes()


def read_target(document: Document, *, base: Path) -> Target:
    """Read a target file.

    Args:
        document: The parsed file.
        base: The file's directory: where relative paths in it start.

    Raises:
        MalformedError: It breaks a rule; the message has line and column.
    """
    table = document.table()
    table.integer("formatVersion", 1, 1)
    target = table.explain(
        lambda: Target(
            registry=_registry(table.table("registry"), base),
            s3=_s3(table.table("s3"), base),
            kubernetes=_kubernetes(table.table("kubernetes"), base),
            api_key=_api_key(table, base),
            service_account=_service_account(table),
            ingress=_ingress(table),
            image_pull_secrets=table.parse_all("imagePullSecrets", object_name),
            docs=_docs(table.table("docs")),
            models=_models(table),
            values=_values(table),
        )
    )
    table.close()
    return target


def _registry(table: Table, base: Path) -> RegistryTarget:
    host = table.parse("host", registry_host)
    plain_http = table.flag("plainHttp", False)
    if plain_http and ecr_host(host):
        table.refuse("plainHttp", "Amazon ECR speaks TLS only")
    registry = RegistryTarget(
        host=host,
        ca=_path(table, "ca", base),
        client_certificate=_path(table, "clientCertificate", base),
        client_key=_path(table, "clientKey", base),
        auth_file=_path(table, "authFile", base),
        token_server=table.parse_optional("tokenServer", endpoint),
        plain_http=plain_http,
        ecr=_ecr(table, base, host),
    )
    if (registry.client_certificate is None) != (registry.client_key is None):
        table.refuse("clientCertificate", "goes with clientKey: give both or none")
    if not plain_http and (registry.token_server or "").startswith("http:"):
        table.refuse("tokenServer", "expected https://, as plainHttp is not true")
    table.close()
    return registry


def _ecr(registry: Table, base: Path, host: str) -> EcrTarget | None:
    if not _given(registry, "ecr"):
        return None
    table, named = registry.table("ecr"), ecr_host(host)
    region = table.parse_optional("region", _region)
    if region is None and named is None:
        table.refuse("region", "missing: registry.host has none in its name")
    if named is not None and region not in {None, named.region}:
        table.refuse("region", f"expected {named.region}, as in registry.host, got {region}")
    ecr = EcrTarget(
        region=region,
        endpoint=table.parse_optional("endpoint", endpoint),
        fips=table.flag("fips", False),
        create=table.flag("create", True),
        scan_on_push=_optional_flag(table, "scanOnPush"),
        immutable_tags=_optional_flag(table, "immutableTags"),
        kms_key=table.parse_optional("kmsKey", str),
        tags=_texts(table, "tags"),
        lifecycle_policy=_path(table, "lifecyclePolicy", base),
        policy=_path(table, "policy", base),
    )
    if ecr.fips and ecr.endpoint is not None:
        table.refuse("fips", "is given beside endpoint, which is taken as it is")
    table.close()
    return ecr


def _s3(table: Table, base: Path) -> S3Target:
    bucket, prefix = table.text("bucket"), table.text("prefix", "")
    s3 = S3Target(
        place=table.explain(lambda: S3Prefix(bucket, prefix.strip("/"))),
        region=table.parse_optional("region", _region),
        endpoint=table.parse_optional("endpoint", endpoint),
        ca=_path(table, "ca", base),
        credentials=_credentials(table, base),
        objects=read_object_settings(table),
    )
    table.close()
    return s3


def _kubernetes(table: Table, base: Path) -> KubernetesTarget:
    kubernetes = table.explain(
        lambda: KubernetesTarget(
            kubeconfig=_path(table, "kubeconfig", base),
            context=table.parse_optional("context", str),
            namespace=table.parse("namespace", namespace, DEFAULT_NAMESPACE),
            release=table.parse("release", namespace, DEFAULT_RELEASE),
            timeout_seconds=table.integer(
                "timeoutSeconds", 1, _MAX_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS
            ),
        )
    )
    table.close()
    return kubernetes


def _secret(table: Table, base: Path, default: str | None = None) -> SecretSource:
    source = SecretSource(
        name=table.parse("secretName", object_name, default),
        from_file=_path(table, "fromFile", base),
    )
    table.close()
    return source


def _credentials(table: Table, base: Path) -> SecretSource | None:
    if not _given(table, "credentials"):
        return None
    return _secret(table.table("credentials"), base)


def _api_key(table: Table, base: Path) -> SecretSource | None:
    # A bare `apiKey:` asks for a key as well: its absence alone turns the check off.
    if not _given(table, "apiKey"):
        return None
    return _secret(table.table("apiKey"), base, _API_KEY_NAME)


def _service_account(table: Table) -> ServiceAccountTarget | None:
    if not _given(table, "serviceAccount"):
        return None
    inner = table.table("serviceAccount")
    account = ServiceAccountTarget(
        create=inner.flag("create", True),
        name=inner.parse_optional("name", object_name) or "",
        annotations=_texts(inner, "annotations"),
    )
    inner.close()
    return account


def _ingress(table: Table) -> IngressTarget | None:
    if not _given(table, "ingress"):
        return None
    inner = table.table("ingress")
    ingress = IngressTarget(
        class_name=inner.parse_optional("className", object_name) or "",
        annotations=_texts(inner, "annotations"),
    )
    inner.close()
    return ingress


def _docs(table: Table) -> DocsTarget:
    docs = DocsTarget(
        enabled=table.flag("enabled", False),
        ingress_host=table.parse_optional("ingressHost", hostname),
    )
    if docs.ingress_host is not None and not docs.enabled:
        table.refuse("ingressHost", "is given, but docs.enabled is not true")
    table.close()
    return docs


def _models(table: Table) -> tuple[ModelTarget, ...] | None:
    if not _given(table, "models"):
        return None
    models = tuple(_model(key, inner) for key, inner in table.named_tables("models", model_key))
    if not models:
        table.refuse("models", "names no model", hint="leave it out to deploy all of the release")
    return models


def _model(key: str, table: Table) -> ModelTarget:
    gpus = table.integer("gpus", 1, max(GPU_COUNTS)) if "gpus" in table else None
    if gpus is not None and gpus not in GPU_COUNTS:
        table.refuse("gpus", f"expected one of {', '.join(map(str, GPU_COUNTS))}, got {gpus}")
    model = ModelTarget(
        key=key,
        checkpoint=table.parse_optional("checkpoint", str),
        model_name=table.parse_optional("modelName", str),
        model_type=table.choice("modelType", MODEL_TYPES) if "modelType" in table else None,
        gpus=gpus,
        ingress_host=table.parse_optional("ingressHost", hostname),
    )
    table.close()
    return model


def _values(table: Table) -> dict[str, object]:
    values = table.plain("values")
    for rule in _PUBLISH_SETS:
        for path in _matches(values, rule):
            table.refuse(
                "values", f"may not set {'.'.join(path)}: publish sets it from the release"
            )
    return values


def _matches(value: object, rule: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Give each path in ``value`` that ``rule`` stands for; ``*`` stands for any key."""
    if not rule:
        yield ()
    elif isinstance(value, dict):
        for key in value if rule[0] == "*" else {rule[0]} & value.keys():
            for rest in _matches(value[key], rule[1:]):
                yield (key, *rest)


def _given(table: Table, key: str) -> bool:
    """Tell whether a field is written at all, even with nothing behind it."""
    return key in table or key in table.names()


def _path(table: Table, key: str, base: Path) -> Path | None:
    text = table.parse_optional(key, str)
    return None if text is None else base / text


def _optional_flag(table: Table, key: str) -> bool | None:
    return table.flag(key) if key in table else None


def _texts(table: Table, key: str) -> dict[str, str]:
    inner = table.table(key)
    return {name: inner.text(name, "") for name in inner.names()}


def _region(text: str) -> str:
    if _REGION.fullmatch(text) is None:
        raise ValueError(f"not a region: {text[:80]!r}")
    return text
