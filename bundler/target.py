"""The target: where a release goes and what of it is deployed, as an operator writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from bundler.document import Document, Table
from bundler.manifest import GPU_COUNTS, MODEL_TYPES
from bundler.reference import S3Prefix, hostname, model_key, namespace, registry_host

_API_KEY_NAME = "vllm-auth"
DEFAULT_NAMESPACE = "poolside-models"
DEFAULT_RELEASE = "inference"
_DEFAULT_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS = 3600, 7 * 24 * 3600
_ENDPOINT = re.compile(r"https?://[^/\s?#@]+/?")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_MAX_OBJECT_NAME = 253
# Helm refuses longer names of releases.
_MAX_RELEASE_NAME = 53
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTarget:
    """Where images go.

    Attributes:
        host: ``HOST[:PORT][/PATH]``, as the cluster's nodes name it too.
        ca: PEM file with the authorities to trust instead of the system's.
        auth_file: Credentials in the form of containers-auth.json(5) instead of the usual places.
        plain_http: No TLS: only for a registry on loopback or in a test.
    """

    host: str
    ca: Path | None = None
    auth_file: Path | None = None
    plain_http: bool = False

    def __post_init__(self) -> None:
        registry_host(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """A secret of the cluster; without ``from_file`` it must be there already."""

    name: str
    from_file: Path | None = None

    def __post_init__(self) -> None:
        object_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Target:
    """Where checkpoints and the release's own files go.

    Attributes:
        place: Bucket and prefix.
        region: None for what AWS' own configuration says.
        endpoint: URL of an S3-compatible server; None for AWS.
        ca: PEM file with the authorities to trust, by us and by the pods.
        credentials: The secret that the pods read; None where they have an identity of their own.
    """

    place: S3Prefix
    region: str | None = None
    endpoint: str | None = None
    ca: Path | None = None
    credentials: SecretSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesTarget:
    """Which cluster, namespace and Helm release; ``timeout_seconds`` is for the pods' start."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    release: str = DEFAULT_RELEASE
    timeout_seconds: int = _DEFAULT_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        namespace(self.namespace)
        namespace(self.release)
        if len(self.release) > _MAX_RELEASE_NAME:
            raise ValueError(f"release: expected at most {_MAX_RELEASE_NAME} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountTarget:
    """The account of the pods: made by the chart, or there already."""

    create: bool = True
    name: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressTarget:
    """How the models' hostnames are served."""

    class_name: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocsTarget:
    """The documentation site."""

    enabled: bool = False
    ingress_host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTarget:
    """One model to deploy; what is None is as the release says for the model of that key."""

    key: str
    checkpoint: str | None = None
    model_name: str | None = None
    model_type: str | None = None
    gpus: int | None = None
    ingress_host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a release goes.

    Attributes:
        models: What is deployed, in the order written; None for every model of the release.
        values: Further values of the chart, merged over the generated ones.
    """

    registry: RegistryTarget
    s3: S3Target
    kubernetes: KubernetesTarget = field(default_factory=KubernetesTarget)
    api_key: SecretSource | None = None
    service_account: ServiceAccountTarget | None = None
    ingress: IngressTarget | None = None
    image_pull_secrets: tuple[str, ...] = ()
    docs: DocsTarget = field(default_factory=DocsTarget)
    models: tuple[ModelTarget, ...] | None = None
    values: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        owners: dict[str, str] = {}
        for owner, host in self._hosts():
            if host in owners:
                raise ValueError(f"{owners[host]} and {owner} have one ingressHost: {host}")
            owners[host] = owner
        credentials = self.s3.credentials
        if self.api_key and credentials and self.api_key.name == credentials.name:
            raise ValueError(f"apiKey and s3.credentials name one secret: {self.api_key.name}")
        if not self.serves_hosts:
            return
        without = [model.key for model in self.models or () if model.ingress_host is None]
        if self.models is None or without:
            raise ValueError(
                "with ingress every model needs its ingressHost; missing for "
                f"{', '.join(without) or 'all, as models is not given'}"
            )

    @property
    def serves_hosts(self) -> bool:
        """Whether the chart is to make an Ingress for each model."""
        return self.ingress is not None or any(self._hosts())

    def _hosts(self) -> Iterator[tuple[str, str]]:
        for model in self.models or ():
            if model.ingress_host is not None:
                yield f"models.{model.key}", model.ingress_host
        if self.docs.ingress_host is not None:
            yield "docs", self.docs.ingress_host


def object_name(text: str) -> str:
    """Check the name of a Kubernetes object such as a secret.

    Raises:
        ValueError: It is not one.
    """
    if len(text) > _MAX_OBJECT_NAME or _OBJECT_NAME.fullmatch(text) is None:
        raise ValueError(f"not a name of a Kubernetes object: {text[:80]!r}")
    return text


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
    registry = RegistryTarget(
        host=table.parse("host", registry_host),
        ca=_path(table, "ca", base),
        auth_file=_path(table, "authFile", base),
        plain_http=table.flag("plainHttp", False),
    )
    table.close()
    return registry


def _s3(table: Table, base: Path) -> S3Target:
    bucket, prefix = table.text("bucket"), table.text("prefix", "")
    s3 = S3Target(
        place=table.explain(lambda: S3Prefix(bucket, prefix.strip("/"))),
        region=table.parse_optional("region", _region),
        endpoint=table.parse_optional("endpoint", _endpoint),
        ca=_path(table, "ca", base),
        credentials=_credentials(table, base),
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
                "timeoutSeconds", 1, _MAX_TIMEOUT_SECONDS, _DEFAULT_TIMEOUT_SECONDS
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


def _texts(table: Table, key: str) -> dict[str, str]:
    inner = table.table(key)
    return {name: inner.text(name, "") for name in inner.names()}


def _region(text: str) -> str:
    if _REGION.fullmatch(text) is None:
        raise ValueError(f"not a region: {text[:80]!r}")
    return text


def _endpoint(text: str) -> str:
    if _ENDPOINT.fullmatch(text) is None:
        raise ValueError(f"not an endpoint: {text[:200]!r}; expected https://HOST[:PORT]")
    return text.rstrip("/")
