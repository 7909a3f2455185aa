"""The target: where a release goes and what of it is deployed, as an operator writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.object_settings import ObjectSettings
from bundler.reference import S3Prefix, namespace, registry_host

DEFAULT_NAMESPACE = "poolside-models"
DEFAULT_RELEASE = "inference"
DEFAULT_TIMEOUT_SECONDS = 3600
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_MAX_OBJECT_NAME = 253
# Helm refuses longer names of releases.
_MAX_RELEASE_NAME = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class EcrTarget:
    """How Amazon ECR is spoken to, and what the repositories are like that publish makes.

    What is None is left to what ECR does by itself.

    Attributes:
        region: None for the one in the host's name.
        endpoint: URL of the API; None for AWS', or what ``AWS_ENDPOINT_URL_ECR`` names.
        fips: Use the endpoints that are validated for FIPS 140.
        create: Make repositories that are missing.
        scan_on_push: Scan each image when it comes.
        immutable_tags: A tag is never moved.
        kms_key: ARN or id of the key that new repositories are encrypted with.
        tags: Of new repositories.
        lifecycle_policy, policy: JSON files of new repositories.
    """

    region: str | None = None
    endpoint: str | None = None
    fips: bool = False
    create: bool = True
    scan_on_push: bool | None = None
    immutable_tags: bool | None = None
    kms_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    lifecycle_policy: Path | None = None
    policy: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTarget:
    """Where images go.

    Attributes:
        host: ``HOST[:PORT][/PATH]``, as the cluster's nodes name it too.
        ca: PEM file with the authorities to trust instead of the system's.
        client_certificate, client_key: PEM files with which we show who we are; both or none.
        auth_file: Credentials in the form of containers-auth.json(5) instead of the usual places.
        token_server: ``https://HOST[:PORT]``: another host than the registry's own that may be
            given our login, and gives tokens for it.
        plain_http: No TLS: only for a registry on loopback or in a test.
        ecr: Settings of Amazon ECR; None where none are given, also for a host that is ECR.
    """

    host: str
    ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    auth_file: Path | None = None
    token_server: str | None = None
    plain_http: bool = False
    ecr: EcrTarget | None = None

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
        objects: What the objects are made with that publish puts there.
    """

    place: S3Prefix
    region: str | None = None
    endpoint: str | None = None
    ca: Path | None = None
    credentials: SecretSource | None = None
    objects: ObjectSettings = field(default_factory=ObjectSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesTarget:
    """Which cluster, namespace and Helm release; ``timeout_seconds`` is for the pods' start."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    release: str = DEFAULT_RELEASE
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS

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
