"""The repositories of Amazon ECR, which are made before an image comes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from bundler.errors import (
    ConflictError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.stores.base import MissingRepository
from bundler.stores.ecr_errors import Place, told
from bundler.stores.ecr_request import NewRepository, Policy, permission

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient

# Source: Amazon ECR API reference, DescribeRepositories.
_BATCH = 100
# Source: Amazon ECR API reference, CreateRepository, repositoryName; one segment of it.
_SEGMENT = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_MAX_NAME = 256
_MAX_PAGES = 100
_ON_PUSH, _ROOT = "CREATE_ON_PUSH", "ROOT"
_ON, _OFF = "ENABLED", "DISABLED"
_MOUNTING, _MAY_LOOK = "BLOB_MOUNTING", "ecr:GetAccountSetting"


class _RegistryId(TypedDict, total=False):
    registryId: str


class EcrRepositories:
    """The repositories of a registry; a ``Repositories``.

    What is there is left as it is. One exception: a repository that holds no image yet and lacks a
    policy that the target names gets it, since a run that was killed leaves one like that.
    """

    def __init__(self, client: ECRClient, place: Place, *, path: str, new: NewRepository) -> None:
        self._client = client
        self._place = place
        self._path = path.strip("/")
        self._new = new
        self._id: _RegistryId = {} if new.account is None else {"registryId": new.account}

    def missing(self, names: Sequence[str]) -> tuple[MissingRepository, ...]:
        """Say which of some repositories are not there, or were not finished."""
        wholes = {name: self._whole(name) for name in names}
        try:
            present = self._present(sorted(set(wholes.values())))
        except DeniedError:
            if self._new.settings.create:
                raise
            return ()  # whoever makes them may look; the registry tells of what is missing
        absent = wholes.keys() - {name for name in names if wholes[name] in present}
        templates = self._templates() if absent else {}
        found = []
        for name, whole in wholes.items():
            if name in absent:
                found.append(self._absent(name, whole, templates))
            elif self._new.settings.create and (lacking := self._lacking(whole)):
                detail = f"there, and still empty; lacks its {' and its '.join(lacking)}"
                found.append(MissingRepository(name, detail=detail))
        return tuple(found)

    def create(self, name: str) -> bool:
        """Make a repository as the target describes it, or finish one that a killed run made."""
        whole = self._whole(name)
        made = self._create(whole)
        lacking = tuple(self._new.policies) if made else self._lacking(whole)
        for policy in lacking:
            self._set(whole, policy)
        return made or bool(lacking)

    def mount_refusal(self) -> str:
        """Say why no blob is mounted; empty where the account lets it be."""
        setting = self._mounting()
        if setting == _ON:
            return ""
        if setting == _OFF:
            return f"the account setting {_MOUNTING} of Amazon ECR is off"
        return f"Amazon ECR mounts nothing unless {_MOUNTING} is on; {_MAY_LOOK} would tell"

    def never_mounts(self) -> bool:
        """Say whether the account is known to let no blob be mounted."""
        return self._mounting() == _OFF

    def _mounting(self) -> object:
        """Give the account's setting; None where it cannot be seen.

        Source:
            Amazon ECR user guide, "Blob mounting in Amazon ECR": it has to be switched on. API
            reference, GetAccountSetting: ENABLED or DISABLED.
        """
        try:
            with told(self._place.at("", _MAY_LOOK)):
                return self._client.get_account_setting(name=_MOUNTING).get("value")
        except (MalformedError, WorldError):
            return None
        # Botocore stumbles on an answer that is no JSON object; something in between gave it.
        except (AttributeError, TypeError, ValueError):
            return None

    def _whole(self, name: str) -> str:
        whole = f"{self._path}/{name}" if self._path else name
        if len(whole) > _MAX_NAME or not all(map(_SEGMENT.fullmatch, whole.split("/"))):
            raise MalformedError(
                f"{self._place}/{whole}: not a name of a repository of Amazon ECR",
                hint="correct the path of registry.host in the target",
            )
        return whole

    def _present(self, names: list[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(names), _BATCH):
            found |= self._describe(names[start : start + _BATCH])
        return found

    def _describe(self, names: list[str]) -> set[str]:
        """Ask for several at once; ECR tells of none when one is missing, so halve them then."""
        shown = names[0] if len(names) == 1 else ""
        remedy = "where all repositories are there, write registry.ecr.create: false in the target"
        place = self._place.at(shown, "ecr:DescribeRepositories", remedy=remedy)
        try:
            with told(place):
                answer = self._client.describe_repositories(repositoryNames=names, **self._id)
        except NotFoundError:
            half = len(names) // 2
            if half == 0:
                return set()
            return self._describe(names[:half]) | self._describe(names[half:])
        return {each.get("repositoryName", "") for each in answer.get("repositories", ())}

    def _absent(self, name: str, whole: str, templates: dict[str, bool]) -> MissingRepository:
        prefix = _template_of(whole, templates)
        creates = self._new.settings.create
        if prefix is not None and templates[prefix] and (self._new.is_plain or not creates):
            return MissingRepository(name, on_push=True, detail=f"template {prefix} makes it")
        if creates:
            return MissingRepository(name)
        detail = f"{self._place}/{whole} is missing, and registry.ecr.create is false"
        return MissingRepository(name, detail=detail, command=self._new.commands(whole))

    def _templates(self) -> dict[str, bool]:
        """Give the prefixes of the registry's templates, and whether each makes on push.

        Who may not look, or asks an API that has none, goes on as if there were none.
        """
        place = self._place.at("", "ecr:DescribeRepositoryCreationTemplates")
        found: dict[str, bool] = {}
        pages = self._client.get_paginator("describe_repository_creation_templates")
        try:
            with told(place):
                for page in islice(pages.paginate(), _MAX_PAGES):
                    for each in page.get("repositoryCreationTemplates", ()):
                        found[each.get("prefix", "")] = _ON_PUSH in each.get("appliedFor", ())
        except (MalformedError, WorldError):
            return {}
        return found

    def _create(self, name: str) -> bool:
        command = f"have somebody who may run: {self._new.commands(name)}"
        place = self._place.at(name, *self._new.permissions, remedy=command)
        try:
            with told(place):
                self._client.create_repository(**self._new.request(name))
        except ConflictError:
            return False
        return True

    def _lacking(self, name: str) -> tuple[Policy, ...]:
        """Say which policies a repository lacks that is still empty; who may not look: none."""
        try:
            absent = tuple(policy for policy in self._new.policies if not self._has(name, policy))
            return absent if absent and self._is_empty(name) else ()
        except DeniedError:
            return ()

    def _has(self, name: str, policy: Policy) -> bool:
        try:
            with told(self._place.at(name)):
                if policy is Policy.LIFECYCLE:
                    self._client.get_lifecycle_policy(repositoryName=name, **self._id)
                else:
                    self._client.get_repository_policy(repositoryName=name, **self._id)
        except NotFoundError:
            return False
        return True

    def _is_empty(self, name: str) -> bool:
        with told(self._place.at(name, "ecr:ListImages")):
            found = self._client.list_images(repositoryName=name, maxResults=1, **self._id)
        return not found.get("imageIds")

    def _set(self, name: str, policy: Policy) -> None:
        remedy = f"have somebody who may run: {self._new.command(name, policy)}"
        text = self._new.policies[policy]
        with told(self._place.at(name, permission(policy), remedy=remedy)):
            if policy is Policy.LIFECYCLE:
                self._client.put_lifecycle_policy(
                    repositoryName=name, lifecyclePolicyText=text, **self._id
                )
            else:
                self._client.set_repository_policy(repositoryName=name, policyText=text, **self._id)


def _template_of(name: str, templates: dict[str, bool]) -> str | None:
    """Find the template of a repository: the longest prefix that is a path above it, else ROOT.

    Source:
        Amazon ECR API reference, CreateRepositoryCreationTemplate, prefix.
    """
    above = [prefix for prefix in _parents(name) if prefix in templates]
    return above[0] if above else _ROOT if _ROOT in templates else None


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
