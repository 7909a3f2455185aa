"""What publishing would do: one step for each thing at the destination."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bundler.digest import Digest
from bundler.errors import ConflictError


class State(StrEnum):
    """How a thing stands at the destination."""

    PRESENT = "present"
    TO_DO = "to do"
    CONFLICT = "conflict"


class Kind(StrEnum):
    """What a step is about, in the order in which steps are carried out."""

    REPOSITORY = "repository"
    IMAGE = "image"
    CHECKPOINT_FILE = "checkpoint file"
    RELEASE_FILE = "release file"
    MARKER = "completion marker"
    NAMESPACE = "namespace"
    CREDENTIAL = "secret"
    CHART = "chart"
    PODS = "pods"
    POINTER = "current release"


_IN_BUCKET = "give s3.prefix another value in the target, or delete the object"
_REMEDIES = {
    Kind.IMAGE: "give registry.host in the target another path (HOST/PATH), or remove the tag",
    Kind.CHECKPOINT_FILE: _IN_BUCKET,
    Kind.RELEASE_FILE: _IN_BUCKET,
    Kind.MARKER: _IN_BUCKET,
}
_REMEDY = "mend what is named, then plan again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing at the destination.

    Attributes:
        name: Image with its tag, object key, or name in the cluster; unique within its kind.
        detail: What is there, or what would change; for people, never a secret.
        size: Bytes that would be sent, where it is to do.
        group: What it is a piece of, such as a checkpoint's address; empty where it stands alone.
        kept: Whether something else is there under its name, and stays; ours does not get there.
    """

    kind: Kind
    name: str
    state: State
    detail: str = ""
    size: int = 0
    group: str = ""
    kept: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f": {self.detail}" if self.detail else "")

    def to_dict(self) -> dict[str, object]:
        """Give the step for machines."""
        return {
            "kind": str(self.kind),
            "name": self.name,
            "state": str(self.state),
            "detail": self.detail,
            "bytes": self.size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that publishing a release to a target comes to.

    Attributes:
        release: Name of the release's directory.
        manifest: Digest of the manifest that it was made from.
        steps: In the order in which they are carried out.
        allowances: What was allowed by name although it is stale, for the receipt.
        highest: The highest sequence that the destination remembered when this was judged.
    """

    release: str
    manifest: Digest
    steps: tuple[Step, ...]
    allowances: tuple[str, ...] = ()
    highest: int = 0

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that are to do."""
        return tuple(step for step in self.steps if step.state is State.TO_DO)

    @property
    def conflicts(self) -> tuple[Step, ...]:
        """The steps that nothing can be done about before a person acts."""
        return tuple(step for step in self.steps if step.state is State.CONFLICT)

    @property
    def pending_bytes(self) -> int:
        """Bytes that would be sent to the registry and to the bucket."""
        return sum(step.size for step in self.pending)

    def is_pending(self, kind: Kind, name: str) -> bool:
        """Say whether one thing is to do."""
        return any(step.kind is kind and step.name == name for step in self.pending)

    def to_dict(self) -> dict[str, object]:
        """Give the plan for machines."""
        return {
            "release": self.release,
            "manifestSha256": self.manifest.hex,
            "pending": len(self.pending),
            "conflicts": len(self.conflicts),
            "pendingBytes": self.pending_bytes,
            "allowances": list(self.allowances),
            "steps": [step.to_dict() for step in self.steps],
        }


def require_no_conflicts(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out.

    Raises:
        ConflictError: It has conflicts; the message names all of them.
    """
    if plan.conflicts:
        remedies = dict.fromkeys(_REMEDIES.get(step.kind, _REMEDY) for step in plan.conflicts)
        raise ConflictError(
            "; ".join(map(str, plan.conflicts)), hint=f"nothing was sent; {'; '.join(remedies)}"
        )
