"""The namespace, and the secrets that pods read: what they should be, and how they stand."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.archive.files import read_limited
from bundler.errors import MalformedError, NotFoundError
from bundler.publish.cluster import Cluster
from bundler.publish.plan import Kind, State, Step
from bundler.target import SecretSource, Target
from bundler.tools.kubectl import Object

_API_KEY_FIELD = "VLLM_API_KEY"
_S3_FIELDS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_MAX_BYTES = 64 << 10
# What tells our secrets from those that people made.
_OWNER_LABEL, _OWNER = "app.kubernetes.io/managed-by", "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSecret:
    """A secret that pods will read.

    Attributes:
        name: In the target's namespace.
        fields: What must be in it.
        content: Value of each field, to make it from; None where it must be there already.
    """

    name: str
    fields: tuple[str, ...]
    content: Mapping[str, str] | None = field(default=None, repr=False)


def read_secrets(target: Target, *, api_key: str | None = None) -> tuple[WantedSecret, ...]:
    """Read the secrets of a target from the files that it names.

    Args:
        target: Names the secrets and their files.
        api_key: The API key where it came another way, such as standard input.

    Raises:
        MalformedError: A file breaks its form, or an API key is given and the target has none.
        NotFoundError: A file is not there.
    """
    secrets = []
    if target.api_key is not None:
        secrets.append(_api_key(target.api_key, api_key))
    elif api_key is not None:
        raise MalformedError("target: an API key is given, but apiKey names no secret for it")
    if target.s3.credentials is not None:
        secrets.append(_credentials(target.s3.credentials))
    return tuple(secrets)


def plan_secret(cluster: Cluster, wanted: WantedSecret, namespace: str) -> Step:
    """Say how a secret stands in the cluster. The step never holds a value."""

    def step(state: State, detail: str = "") -> Step:
        return Step(kind=Kind.CREDENTIAL, name=wanted.name, state=state, detail=detail)

    found = cluster.get("secret", wanted.name)
    if found is None and wanted.content is None:
        return step(State.CONFLICT, f"is not there; make it: {_command(wanted, namespace)}")
    if found is None:
        return step(State.TO_DO, "to make")
    data = _data(found)
    missing = [name for name in wanted.fields if not data.get(name)]
    if wanted.content is None:
        return (
            step(State.CONFLICT, f"has no {', '.join(missing)}") if missing else step(State.PRESENT)
        )
    if all(data.get(name) == value.encode() for name, value in wanted.content.items()):
        return step(State.PRESENT)
    if _is_ours(found):
        return step(State.TO_DO, "to change; pods read it when they start next")
    return step(
        State.CONFLICT,
        "holds something else and was not made by bundle; delete it, or use it as it is by "
        "leaving fromFile out",
    )


def secret_object(wanted: WantedSecret, namespace: str) -> Object:
    """Give the object that makes a secret whose content is known."""
    content = wanted.content or {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": wanted.name,
            "namespace": namespace,
            "labels": {_OWNER_LABEL: _OWNER},
        },
        "type": "Opaque",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in content.items()},
    }


def namespace_object(name: str) -> Object:
    """Give the object that makes a namespace."""
    metadata = {"name": name, "labels": {_OWNER_LABEL: _OWNER}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def plan_namespace(cluster: Cluster, name: str) -> Step:
    """Say how the namespace stands in the cluster."""
    found = cluster.get("namespace", name)
    if found is None:
        return Step(kind=Kind.NAMESPACE, name=name, state=State.TO_DO, detail="to make")
    status = found.get("status")
    if isinstance(status, Mapping) and status.get("phase") == "Terminating":
        detail = "is being deleted; wait until it is gone"
        return Step(kind=Kind.NAMESPACE, name=name, state=State.CONFLICT, detail=detail)
    return Step(kind=Kind.NAMESPACE, name=name, state=State.PRESENT)


def _api_key(source: SecretSource, given: str | None) -> WantedSecret:
    fields = (_API_KEY_FIELD,)
    if given is not None:
        where, text = "API key", given
    elif source.from_file is not None:
        where, text = str(source.from_file), _read(source.from_file, "apiKey.fromFile")
    else:
        return WantedSecret(name=source.name, fields=fields)
    key = text.removesuffix("\n").removesuffix("\r")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise MalformedError(f"{where}: expected one line of printable ASCII without spaces")
    return WantedSecret(name=source.name, fields=fields, content={_API_KEY_FIELD: key})


def _credentials(source: SecretSource) -> WantedSecret:
    if source.from_file is None:
        return WantedSecret(name=source.name, fields=_S3_FIELDS)
    content: dict[str, str] = {}
    text = _read(source.from_file, "s3.credentials.fromFile")
    for number, line in enumerate(text.splitlines(), 1):
        name, _, value = line.strip().partition("=")
        if not line.strip() or line.startswith("#"):
            continue
        if name not in _S3_FIELDS or name in content or not value:
            raise MalformedError(
                f"{source.from_file}:{number}: expected {' and '.join(_S3_FIELDS)}, each once, as "
                "NAME=VALUE"
            )
        content[name] = value
    missing = [name for name in _S3_FIELDS if name not in content]
    if missing:
        raise MalformedError(f"{source.from_file}: expected a line {missing[0]}=VALUE")
    return WantedSecret(name=source.name, fields=_S3_FIELDS, content=content)


def _read(path: Path, field: str) -> str:
    try:
        # A secret that is mounted is often a link, which is the operator's own.
        return read_limited(path.resolve(), limit=_MAX_BYTES).decode()
    except UnicodeDecodeError:
        raise MalformedError(f"{path}: expected text in UTF-8") from None
    except NotFoundError as error:
        hint = "make the file, or correct its path, which is relative to the target file"
        raise NotFoundError(f"target {field}: {error}", hint=hint) from error


def _data(found: Object) -> dict[str, bytes]:
    data = found.get("data")
    if not isinstance(data, Mapping):
        return {}
    try:
        return {str(name): base64.b64decode(str(text)) for name, text in data.items()}
    except binascii.Error:
        return {}


def _is_ours(found: Object) -> bool:
    metadata = found.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    return isinstance(labels, Mapping) and labels.get(_OWNER_LABEL) == _OWNER


def _command(wanted: WantedSecret, namespace: str) -> str:
    fields = " ".join(f"--from-file={name}=FILE_WITH_IT" for name in wanted.fields)
    return f"kubectl create secret generic {wanted.name} --namespace {namespace} {fields}"
