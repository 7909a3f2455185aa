"""What publishing would do: one step for each thing at the destination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from bundler.digest import Digest
from bundler.errors import ConflictError
from bundler.publish.only import EVERYTHING, Only


class State(StrEnum):
    """How a thing stands at the destination."""

    PRESENT = "present"
    TO_DO = "to do"
    CONFLICT = "conflict"
    NOT_ASKED = "not asked for"


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
    RECEIPT = "receipt"
    POINTER = "current release"


_SINGLE = (Kind.NAMESPACE, Kind.CHART, Kind.PODS, Kind.RECEIPT, Kind.POINTER)
_IN_BUCKET = "give s3.prefix another value in the target, or delete the object"
_REMEDIES = {
    Kind.IMAGE: "give registry.host in the target another path (HOST/PATH), or remove the tag",
    Kind.CHECKPOINT_FILE: _IN_BUCKET,
    Kind.RELEASE_FILE: _IN_BUCKET,
    Kind.MARKER: _IN_BUCKET,
}
_REMEDY = "mend what is named, then plan again"
_COMMANDED = "have somebody who may run what follows, then plan again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing at the destination.

    Attributes:
        name: Image with its tag, object key, or name in the cluster; unique within its kind.
        detail: What is there, or what would change; for people, never a secret.
        size: Bytes that would be sent, where it is to do.
        shared: Bytes beside them that are sent, too, where the registry does not mount what
            another of its repositories has.
        group: What it is a piece of, such as a checkpoint's address; empty where it stands alone.
        kept: Whether something else is there under its name, and stays; ours does not get there.
        place: Its whole address, where the name is only a part of that; for people.
        command: What somebody has to run who may, to end a conflict.
    """

    kind: Kind
    name: str
    state: State
    detail: str = ""
    size: int = 0
    shared: int = 0
    group: str = ""
    kept: bool = False
    place: str = ""
    command: str = ""

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
            "sharedBytes": self.shared,
            "kept": self.kept,
            "place": self.place,
            "command": self.command,
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
        only: Which parts were asked for; of the others nothing is known.
    """

    release: str
    manifest: Digest
    steps: tuple[Step, ...]
    allowances: tuple[str, ...] = ()
    highest: int = 0
    only: Only = EVERYTHING

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that are to do."""
        return self.in_state(State.TO_DO)

    @property
    def conflicts(self) -> tuple[Step, ...]:
        """The steps that nothing can be done about before a person acts."""
        return self.in_state(State.CONFLICT)

    @property
    def pending_bytes(self) -> int:
        """Bytes that would be sent to the registry and to the bucket."""
        return sum(step.size for step in self.pending)

    @property
    def shared_bytes(self) -> int:
        """Bytes that would be sent, too, if the registry mounted nothing."""
        return sum(step.shared for step in self.pending)

    def in_state(self, state: State) -> tuple[Step, ...]:
        """Give the steps that stand so."""
        return tuple(step for step in self.steps if step.state is state)

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
            "notAsked": len(self.in_state(State.NOT_ASKED)),
            "only": list(self.only.words),
            "pendingBytes": self.pending_bytes,
            "sharedBytes": self.shared_bytes,
            "allowances": list(self.allowances),
            "steps": [step.to_dict() for step in self.steps],
        }


def counted(steps: Iterable[Step]) -> str:
    """Say of what kinds some steps are, and of what there may be several, how many."""
    kinds = Counter(step.kind for step in steps)
    return ", ".join(_counted(kind, number) for kind, number in kinds.items())


def _counted(kind: Kind, number: int) -> str:
    if kind in _SINGLE:
        return str(kind)
    if number == 1:
        return f"1 {kind}"
    return f"{number} repositories" if kind is Kind.REPOSITORY else f"{number} {kind}s"


def require_no_conflicts(plan: Plan, *, shown: bool = False) -> None:
    """Refuse a plan that cannot be carried out.

    Args:
        plan: What was planned.
        shown: People have seen it: several conflicts are counted, and not told again.

    Raises:
        ConflictError: It has conflicts; the message names all of them, one a line, and the hint has
            every command that would end one.
    """
    conflicts = plan.conflicts
    if not conflicts:
        return
    told = "\n".join(map(str, conflicts))
    if len(conflicts) > 1:
        told = f"{len(conflicts)} conflicts" + (", marked ! above" if shown else f":\n{told}")
    remedies = dict.fromkeys(_remedy(step) for step in conflicts)
    commands = dict.fromkeys(step.command for step in conflicts if step.command)
    raise ConflictError(
        told, hint="\n".join([f"nothing was sent; {'; '.join(remedies)}", *commands])
    )


def _remedy(step: Step) -> str:
    return _COMMANDED if step.command else _REMEDIES.get(step.kind, _REMEDY)
