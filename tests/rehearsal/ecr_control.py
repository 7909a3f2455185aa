"""The AWS API behind the front of Amazon ECR: moto's, and what moto has not."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import boto3

from tests.rehearsal.addresses import REGION
from tests.rehearsal.aws import CREDENTIALS
from tests.rehearsal.ecr_state import EcrFront, RefusedError

_LOGIN_SECONDS = 12 * 3600
_SECONDS = 60
_JSON = {"Content-Type": "application/x-amz-json-1.1"}


@dataclass(frozen=True, slots=True)
class Template:
    """A repository creation template: moto has none."""

    prefix: str
    applied_for: tuple[str, ...] = ("CREATE_ON_PUSH",)

    def fits(self, name: str) -> bool:
        """Tell whether it is about a repository."""
        return self.prefix == "ROOT" or name.startswith(f"{self.prefix}/")


class Control:
    """Answers calls, and tells the front of repositories."""

    def __init__(self, front: EcrFront, moto: str, templates: tuple[Template, ...]) -> None:
        self._front = front
        self._moto = moto
        self._templates = templates
        self._known: dict[str, bool] = {}
        self._client = boto3.Session().client(
            "ecr",
            region_name=REGION,
            endpoint_url=moto,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer a call of the API."""
        action = next(v for k, v in headers.items() if k.lower() == "x-amz-target")
        action = action.rpartition(".")[2]
        self._front.requests[-1] = action
        if action in self._front.denied:
            return _denied(f"User is not authorized to perform: ecr:{action}")
        if action == "GetAuthorizationToken":
            token = base64.b64encode(f"AWS:{self._front.new_login()}".encode()).decode()
            login = {
                "authorizationToken": token,
                "expiresAt": time.time() + _LOGIN_SECONDS,
                "proxyEndpoint": self._front.url,
            }
            return _json({"authorizationData": [login]})
        if action == "DescribeRepositoryCreationTemplates":
            found = [
                {"prefix": each.prefix, "appliedFor": list(each.applied_for)}
                for each in self._templates
            ]
            return _json({"registryId": "123456789012", "repositoryCreationTemplates": found})
        if action == "GetAccountSetting":
            value = "ENABLED" if self._front.quirks.mounting else "DISABLED"
            return _json({"name": "BLOB_MOUNTING", "value": value})
        return self._ask_moto(headers, body)

    def _ask_moto(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        kept = {k: v for k, v in headers.items() if k.lower() not in {"host", "content-length"}}
        request = urllib.request.Request(f"{self._moto}/", data=body, headers=kept, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                return response.status, dict(_JSON), response.read()
        except urllib.error.HTTPError as error:
            with error:
                kind = error.headers.get("x-amzn-ErrorType", "")
                return error.code, {**_JSON, "x-amzn-ErrorType": kind}, error.read()

    def require_repository(self, name: str, *, pushed: bool) -> None:
        """Refuse a request about a repository that is not there and that no template makes.

        Source:
            Amazon ECR user guide, "Pushing a Docker image": the repository must exist; "Repository
            creation templates": CREATE_ON_PUSH. The words are those of the API's exception.
        """
        if name in self._known:
            return
        if pushed and self._makes(name) and not self._exists(name):
            self._client.create_repository(repositoryName=name)
        if not self._exists(name):
            text = (
                f"The repository with name '{name}' does not exist in the registry with id "
                "'123456789012'"
            )
            raise RefusedError(404, "NAME_UNKNOWN", text)

    def is_immutable(self, name: str) -> bool:
        """Tell whether the tags of a repository that is there may not be moved."""
        return self._known[name]

    def _makes(self, name: str) -> bool:
        fitting = [each for each in self._templates if each.fits(name)]
        best = max(
            fitting, key=lambda each: len(each.prefix) * (each.prefix != "ROOT"), default=None
        )
        return best is not None and "CREATE_ON_PUSH" in best.applied_for

    def _exists(self, name: str) -> bool:
        try:
            [found] = self._client.describe_repositories(repositoryNames=[name])["repositories"]
        except self._client.exceptions.RepositoryNotFoundException:
            return False
        self._known[name] = found["imageTagMutability"].startswith("IMMUTABLE")
        return True


def _denied(message: str) -> tuple[int, dict[str, str], bytes]:
    kind = "AccessDeniedException"
    return 400, {**_JSON, "x-amzn-ErrorType": kind}, json.dumps({"message": message}).encode()


def _json(document: object) -> tuple[int, dict[str, str], bytes]:
    return 200, dict(_JSON), json.dumps(document).encode()
