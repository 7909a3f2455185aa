"""What Amazon ECR says when it fails, told in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from botocore.exceptions import BotoCoreError, ClientError

from bundler.errors import (
    BundleError,
    ConflictError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.stores.aws_errors import (
    DENIED,
    REFUSALS,
    Service,
    code_of,
    denied_action,
    message_of,
    unanswered,
)

_ECR = Service(
    ca="registry.ca in the target",
    endpoint="registry.ecr.endpoint in the target",
)
_NOT_THERE = frozenset(
    {
        "RepositoryNotFoundException",
        "LifecyclePolicyNotFoundException",
        "RepositoryPolicyNotFoundException",
    }
)
_MALFORMED = frozenset(
    {
        "InvalidParameterException",
        "InvalidTagParameterException",
        "TooManyTagsException",
        "ValidationException",
    }
)
_BUSY = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "429",
    }
)
_KMS = (
    "check registry.ecr.kmsKey, the state of that key, and that its policy lets whoever runs this "
    "use kms:DescribeKey and kms:CreateGrant"
)
_QUOTA = "remove repositories, or have AWS raise the quota of registered repositories"


@dataclass(frozen=True, slots=True)
class Place:
    """What a call was about.

    Attributes:
        registry: Its host.
        server: URL of the API.
        repository: Its whole name; empty for the registry itself.
        permissions: Which are needed, the call's own first.
        remedy: What helps instead where we are denied; may be empty.
    """

    registry: str
    server: str
    repository: str = ""
    permissions: tuple[str, ...] = ()
    remedy: str = ""

    def at(self, repository: str, *permissions: str, remedy: str = "") -> Place:
        """Give the place of a call about one repository."""
        return replace(self, repository=repository, permissions=permissions, remedy=remedy)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}" if self.repository else self.registry


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Turn what the calls within raise into errors of ours.

    Raises:
        NotFoundError: There is no such repository or policy.
        ConflictError: There is such a repository.
        DeniedError, MalformedError, WorldError: All other failures.
    """
    try:
        yield
    except ClientError as error:
        raise _refused(error, place) from error
    except BotoCoreError as error:
        raise unanswered(error, str(place), place.server, _ECR) from error


def _refused(error: ClientError, place: Place) -> BundleError:
    code, said = code_of(error), message_of(error)
    if code in _NOT_THERE:
        return NotFoundError(f"{place}: not there ({code})")
    if code == "RepositoryAlreadyExistsException":
        return ConflictError(f"{place}: the repository is there already")
    if code in DENIED:
        return _denied(said, place)
    if code in REFUSALS:
        reason, hint = REFUSALS[code]
        return DeniedError(f"{place}: refused by {place.server}: {reason} ({code})", hint=hint)
    if code in _MALFORMED:
        hint = "correct registry in the target"
        return MalformedError(f"{place}: Amazon ECR does not take this: {said} ({code})", hint=hint)
    return _failed(error, code, said, place)


def _failed(error: ClientError, code: str, said: str, place: Place) -> WorldError:
    if code == "LimitExceededException":
        return WorldError(f"{place}: a limit of the account is reached: {said}", hint=_QUOTA)
    if code == "KmsException":
        return WorldError(f"{place}: KMS, not ECR, refused: {said}", hint=_KMS)
    if code in _BUSY:
        text = f"{place}: Amazon ECR is too busy for this account, after several tries ({code})"
        return WorldError(text, hint="run again in some minutes")
    text = f"{place}: {error.operation_name} failed at {place.server}: {code}: {said}"
    return WorldError(text, hint="run again; if it stays, check the endpoint of ECR")


def _denied(said: str, place: Place) -> DeniedError:
    action = denied_action(said)
    needed = dict.fromkeys(filter(None, (action, *place.permissions)))
    first = next(iter(needed), "an action that it does not name")
    hint = f"allow {', '.join(needed) or 'it'} for whoever runs this"
    if place.remedy:
        hint += f"; or {place.remedy}"
    detail = f": {said}" if action else ""
    return DeniedError(f"{place}: access denied by Amazon ECR: {first}{detail}", hint=hint)
