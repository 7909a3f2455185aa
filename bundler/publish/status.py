"""How a release stands at its destination, compared with what was signed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bundler.digest import Digest
from bundler.errors import BundleError
from bundler.manifest import Checkpoint, Manifest
from bundler.publish.chart import is_pending
from bundler.publish.inventory import Held, Inventory, is_check_name, own_paths, signed_files
from bundler.publish.layout import Layout
from bundler.publish.pointer import Pointer
from bundler.target import KubernetesTarget
from bundler.tools.helm_release import Installed

_DEPLOYED = "deployed"


class Standing(StrEnum):
    """How one thing stands."""

    PRESENT = "present"
    MISSING = "missing"
    DIFFERENT = "different"
    UNPROVEN = "not compared"
    FOREIGN = "foreign"
    UNFINISHED = "unfinished"
    UNKNOWN = "unknown"


class Subject(StrEnum):
    """What a finding is about, in the order in which findings are shown."""

    BUCKET = "bucket"
    CHECKPOINT_FILE = "checkpoint file"
    RELEASE_FILE = "release file"
    MARKER = "completion marker"
    POINTER = "current release"
    OTHER = "other object"
    RELEASE = "other release"
    UPLOAD = "upload"
    REGISTRY = "registry"
    IMAGE = "image"
    CHART = "chart"


# Where these cannot be asked, nobody knows whether the release is there.
_NEEDED = (Subject.BUCKET, Subject.REGISTRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one thing at the destination stands.

    Attributes:
        name: Object key, image with its tag, and so on.
        detail: What is there instead, or what is known of it.
        group: The checkpoint of this release that it is in, by its address; empty for none.
        size: Bytes, of what takes room and is not of the release.
    """

    subject: Subject
    name: str
    standing: Standing
    detail: str = ""
    group: str = ""
    size: int = 0

    @property
    def is_drift(self) -> bool:
        """Whether the release is not there as it was signed.

        An object more is drift inside a checkpoint: whoever copies the whole prefix gets it too.
        """
        if self.standing is Standing.FOREIGN:
            return bool(self.group)
        return self.standing in {Standing.MISSING, Standing.DIFFERENT}

    @property
    def hides_the_answer(self) -> bool:
        """Whether something could not be asked that the release cannot do without."""
        return self.standing is Standing.UNKNOWN and self.subject in _NEEDED

    def to_dict(self) -> dict[str, object]:
        """Give it for machines."""
        return {
            "subject": str(self.subject),
            "name": self.name,
            "standing": str(self.standing),
            "drift": self.is_drift,
            "detail": self.detail,
            "checkpoint": self.group or None,
            "bytes": self.size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a release stands at its destination.

    Attributes:
        release: Its name.
        manifest: Digest of the manifest that all was compared with.
        findings: Of everything that was looked at.
    """

    release: str
    manifest: Digest
    findings: tuple[Finding, ...]

    @property
    def drift(self) -> tuple[Finding, ...]:
        """What is not there as it was signed."""
        return tuple(item for item in self.findings if item.is_drift)

    @property
    def unknown(self) -> tuple[Finding, ...]:
        """What could not be asked, and the release cannot do without."""
        return tuple(item for item in self.findings if item.hides_the_answer)

    def to_dict(self) -> dict[str, object]:
        """Give it for machines."""
        counts = dict.fromkeys(map(str, Standing), 0)
        for item in self.findings:
            counts[str(item.standing)] += 1
        return {
            "release": self.release,
            "manifestSha256": self.manifest.hex,
            "ok": not self.drift and not self.unknown,
            "counts": counts,
            "findings": [item.to_dict() for item in self.findings],
        }


def not_asked(subject: Subject, name: str, error: BundleError) -> Finding:
    """Tell of what could not be asked."""
    hint = f" ({error.hint})" if error.hint else ""
    detail = f"could not be asked: {error}{hint}"
    return Finding(subject=subject, name=name, standing=Standing.UNKNOWN, detail=detail)


def judge_pointer(
    pointer: Pointer | None, manifest: Manifest, digest: Digest, *, key: str, highest: int
) -> Finding:
    """Say whether one place remembers that this very release is deployed.

    Args:
        pointer: What it remembers.
        manifest: The release's.
        digest: Of that manifest.
        key: What to call the place.
        highest: The highest sequence that any place remembers.
    """
    deployed = pointer.deployed if pointer else None
    standing, detail = Standing.PRESENT, ""
    if deployed is None:
        standing, detail = Standing.MISSING, "nothing was deployed to the end yet"
    elif deployed.release != manifest.release.directory:
        standing, detail = Standing.DIFFERENT, f"{deployed.release} is deployed"
    elif deployed.manifest != digest:
        detail = f"is of the manifest {deployed.manifest}, expected {digest}"
        standing = Standing.DIFFERENT
    elif pointer is not None and pointer.highest != highest:
        detail = f"says that {pointer.highest} is the highest sequence, and {highest} was deployed"
        standing = Standing.DIFFERENT
    return Finding(subject=Subject.POINTER, name=key, standing=standing, detail=detail)


def judge_installed(
    installed: Installed | None,
    manifest: Manifest,
    digest: Digest,
    layout: Layout,
    target: KubernetesTarget,
) -> Finding:
    """Compare what Helm keeps of its newest revision with what was signed."""
    name = f"{target.namespace}/{target.release}"
    standing, details = Standing.MISSING, ["Helm has no such release"]
    if installed is not None:
        details = list(_differences(installed, manifest, digest, layout))
        standing = Standing.DIFFERENT if details else Standing.PRESENT
    return Finding(subject=Subject.CHART, name=name, standing=standing, detail="; ".join(details))


def _differences(
    installed: Installed, manifest: Manifest, digest: Digest, layout: Layout
) -> Iterator[str]:
    if installed.status != _DEPLOYED:
        at_work = ": a helm works on it, or was killed" if is_pending(installed) else ""
        yield f"revision {installed.revision} is {installed.status}{at_work}"
    chart = f"{manifest.own_chart.name}-{manifest.own_chart.version}"
    if installed.chart != chart:
        yield f"chart {installed.chart}, expected {chart}"
    release = _mapping(installed.values, "release")
    if release.get("manifestSha256") != digest.hex:
        yield f"values of {release.get('name')}, expected those of {manifest.release.directory}"
        return
    models = _mapping(installed.values, "models")
    wanted = {
        item.model.key: str(layout.checkpoints[item.model.checkpoint]) for item in layout.served
    }
    for key in sorted(wanted.keys() | models.keys()):
        got = _mapping(models, key).get("model")
        if got != wanted.get(key):
            yield f"model {key}: {got or 'nothing'}, expected {wanted.get(key, 'nothing')}"


def _mapping(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def foreign_objects(
    inventory: Inventory, known: Mapping[str, Manifest], own: Iterable[str]
) -> Iterator[Finding]:
    """Name every object that no known release has.

    Args:
        inventory: What lies there.
        known: The releases that are known, by name. Files of the others are not foreign: what
            they are nobody can say.
        own: Addresses of the checkpoints of the release that this is about.
    """
    mine = set(own)
    paths = signed_files(known.values())
    for address, held in inventory.checkpoints.items():
        expected = paths.get(address.rpartition("/")[2], {})
        yield from _extra(held, expected, address if address in mine else "")
    for name, held in inventory.releases.items():
        if name in known:
            ours = own_paths(held, known[name])
            yield from _extra(held, {path for path in ours if not is_check_name(path)}, "")
    for item in inventory.foreign:
        yield _foreign(item.key, item.size, "")


def _extra(held: Held, expected: Collection[str], group: str) -> Iterator[Finding]:
    for path, item in held.objects.items():
        if path not in expected:
            yield _foreign(item.key, item.size, group)


def _foreign(key: str, size: int, group: str) -> Finding:
    detail = "in a checkpoint of this release" if group else ""
    return Finding(
        subject=Subject.OTHER,
        name=key,
        standing=Standing.FOREIGN,
        detail=detail,
        group=group,
        size=size,
    )


def chosen(manifest: Manifest, layout: Layout, names: Iterable[str]) -> list[Checkpoint]:
    """Give the checkpoints of some names that go to the destination, in the layout's order."""
    wanted = set(names)
    return [manifest.checkpoint(name) for name in layout.checkpoints if name in wanted]
