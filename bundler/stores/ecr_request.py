"""What Amazon ECR is asked for a new repository, as a call and as a command for somebody else."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import MalformedError, NotFoundError, WorldError
from bundler.jsontext import read_json
from bundler.target import EcrTarget

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import CreateRepositoryRequestTypeDef


class Policy(StrEnum):
    """What a repository gets after it was made, each by a call of its own."""

    LIFECYCLE = "lifecycle policy"
    ACCESS = "repository policy"


# Source: Amazon ECR API reference, PutLifecyclePolicy and SetRepositoryPolicy: characters.
_LIMITS = {Policy.LIFECYCLE: 30_720, Policy.ACCESS: 10_240}
_FIELDS = {Policy.LIFECYCLE: "registry.ecr.lifecyclePolicy", Policy.ACCESS: "registry.ecr.policy"}
_PERMISSIONS = {
    Policy.LIFECYCLE: "ecr:PutLifecyclePolicy",
    Policy.ACCESS: "ecr:SetRepositoryPolicy",
}
_COMMANDS = {
    Policy.LIFECYCLE: ("put-lifecycle-policy", "--lifecycle-policy-text"),
    Policy.ACCESS: ("set-repository-policy", "--policy-text"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRepository:
    """What the target says of repositories that publish makes.

    Attributes:
        settings: The target's.
        account: Of the registry; None for the caller's own.
        region, fips: How the commands reach ECR.
        policies: Texts of the policies that a new repository gets.
    """

    settings: EcrTarget
    account: str | None
    region: str
    fips: bool
    policies: dict[Policy, str]

    @property
    def is_plain(self) -> bool:
        """Whether the target says nothing of what repositories are like."""
        said = self.settings
        choices = (said.scan_on_push, said.immutable_tags, said.kms_key)
        return not (said.tags or self.policies) and all(choice is None for choice in choices)

    @property
    def permissions(self) -> tuple[str, ...]:
        """Which permissions it takes to make one."""
        needed = ["ecr:CreateRepository"]
        if self.settings.tags:
            needed.append("ecr:TagResource")
        if self.settings.kms_key:
            needed += ["kms:DescribeKey", "kms:CreateGrant"]
        return (*needed, *(_PERMISSIONS[policy] for policy in self.policies))

    def request(self, name: str) -> CreateRepositoryRequestTypeDef:
        """Give the arguments of CreateRepository; what the target leaves open is left to ECR."""
        said = self.settings
        request: CreateRepositoryRequestTypeDef = {"repositoryName": name}
        if self.account is not None:
            request["registryId"] = self.account
        if said.scan_on_push is not None:
            request["imageScanningConfiguration"] = {"scanOnPush": said.scan_on_push}
        if said.immutable_tags is not None:
            request["imageTagMutability"] = "IMMUTABLE" if said.immutable_tags else "MUTABLE"
        if said.kms_key is not None:
            key = said.kms_key
            request["encryptionConfiguration"] = {"encryptionType": "KMS", "kmsKey": key}
        if said.tags:
            request["tags"] = [{"Key": key, "Value": said.tags[key]} for key in sorted(said.tags)]
        return request

    def commands(self, name: str) -> str:
        """Give all that has to be run to make one, as one line for a shell."""
        lines = [self._creation(name), *(self.command(name, policy) for policy in self.policies)]
        return " && ".join(lines)

    def command(self, name: str, policy: Policy) -> str:
        """Give the command that sets one policy of a repository."""
        verb, option = _COMMANDS[policy]
        return self._line(verb, name, option, f"file://{self._file(policy)}")

    def _creation(self, name: str) -> str:
        request = self.request(name)
        options = []
        if "imageScanningConfiguration" in request:
            scan = request["imageScanningConfiguration"]["scanOnPush"]
            options += ["--image-scanning-configuration", f"scanOnPush={str(scan).lower()}"]
        if "imageTagMutability" in request:
            options += ["--image-tag-mutability", request["imageTagMutability"]]
        if "encryptionConfiguration" in request:
            encryption = json.dumps(request["encryptionConfiguration"])
            options += ["--encryption-configuration", encryption]
        if "tags" in request:
            options += ["--tags", json.dumps(request["tags"])]
        return self._line("create-repository", name, *options)

    def _line(self, verb: str, name: str, *options: str) -> str:
        argv = ["aws", "ecr", verb, "--region", self.region]
        if self.settings.endpoint:
            argv += ["--endpoint-url", self.settings.endpoint]
        if self.account:
            argv += ["--registry-id", self.account]
        line = shlex.join([*argv, "--repository-name", name, *options])
        return f"AWS_USE_FIPS_ENDPOINT=true {line}" if self.fips else line

    def _file(self, policy: Policy) -> Path | None:
        said = self.settings
        return said.lifecycle_policy if policy is Policy.LIFECYCLE else said.policy


def permission(policy: Policy) -> str:
    """Name the permission that it takes to set a policy."""
    return _PERMISSIONS[policy]


def read_policies(settings: EcrTarget) -> dict[Policy, str]:
    """Read the policies that new repositories get, before anything is asked of ECR.

    Raises:
        NotFoundError, WorldError: A file is not there, or cannot be read.
        MalformedError: It is no JSON, or longer than ECR takes.
    """
    files = {Policy.LIFECYCLE: settings.lifecycle_policy, Policy.ACCESS: settings.policy}
    return {policy: _read(policy, path) for policy, path in files.items() if path is not None}


def _read(policy: Policy, path: Path) -> str:
    limit = _LIMITS[policy]
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError as error:
        hint = f"correct {_FIELDS[policy]} in the target"
        raise NotFoundError(f"{path}: no such file", hint=hint) from error
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}") from error
    if len(content) > limit:
        raise MalformedError(f"{path}: expected a {policy} of at most {limit} bytes, got more")
    read_json(content, name=str(path), limit=limit).table()
    return content.decode()
