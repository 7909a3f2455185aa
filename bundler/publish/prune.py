"""What of a destination may go. Pure: nothing is asked or deleted here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bundler.errors import CheckError, MalformedError, printable
from bundler.manifest import Checkpoint, Manifest
from bundler.publish.ages import age_text
from bundler.publish.inventory import (
    Held,
    Inventory,
    is_check_name,
    own_paths,
    signed_files,
    signed_paths,
)
from bundler.publish.prune_plan import PrunePlan, Thing, Verdict
from bundler.reference import S3Prefix
from bundler.release import signature_name
from bundler.stores.upkeep import UnfinishedUpload

_USUAL_AGE = 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a person wants to go.

    Attributes:
        keep: How many releases stay, counted from the deployed one down; newer ones stay too.
        older_than: Seconds; nothing younger goes, as somebody may be at work on it. None for seven
            days, which what was named need not have.
        named: The releases that are to go, and nothing else; empty to go by ``keep``.
    """

    keep: int = 2
    older_than: int | None = None
    named: tuple[str, ...] = ()

    @property
    def age(self) -> int:
        """Seconds that everything must have, but for what was named with no age given."""
        return _USUAL_AGE if self.older_than is None else self.older_than

    def stale(self, now: int) -> int:
        """Give the time, in seconds since 1970, before which everything is old enough to go."""
        return now - self.age

    def why_young(self, held: Held, now: int) -> str:
        """Say why something is too young to go; empty where it is not."""
        if self.named and self.older_than is None:
            return ""
        young = held.newest >= self.stale(now)
        return f"stored within the last {age_text(self.age)}" if young else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a destination.

    Attributes:
        inventory: What lies there.
        manifests: Of every release that was verified, by its name.
        key8s: Of the keys that a person trusts: what cannot be verified is ours by such a name.
        in_use: Why a release must not go, by its name: deployed, or what one goes back to.
        addresses: What values name that a cluster runs, or goes back to: ``s3://…``.
        deployed: The sequence that is deployed; 0 for none.
        uploads: Unfinished ones.
        homes: Where the marker of a verified release says that a checkpoint lies whole, by the
            names of the two: an address. Asked only where there are copies to choose from.
        now: Seconds since 1970.
    """

    inventory: Inventory
    manifests: Mapping[str, Manifest]
    key8s: Collection[str] = ()
    in_use: Mapping[str, str] = field(default_factory=dict)
    addresses: Sequence[str] = ()
    deployed: int = 0
    uploads: Sequence[UnfinishedUpload] = ()
    homes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    now: int

    def names(self, address: S3Prefix) -> bool:
        """Say whether values name this place, one above it or one below it."""
        ours = f"{address}/"
        return any(
            f"{other}/".startswith(ours) or ours.startswith(f"{other.rstrip('/')}/")
            for other in self.addresses
        )


def make_prune_plan(facts: Facts, rules: Rules) -> PrunePlan:
    """Say what may go.

    Raises:
        CheckError: A release that was named is in use; one in use has no manifest; or one is being
            published now.
        MalformedError: A release that was named is not there.
    """
    _check_named(facts, rules)
    _check_known(facts)
    _check_nobody_publishes(facts, rules)
    going: list[Verdict] = []
    staying: list[Verdict] = []
    foreign = list(facts.inventory.foreign)
    for name, held in facts.inventory.releases.items():
        ours, theirs = held.split(own_paths(held, facts.manifests.get(name)))
        foreign += theirs
        reason = _why_release_stays(name, held, facts, rules)
        thing = Thing.RELEASE if name in facts.manifests else Thing.REMAINS
        if reason:
            staying.append(Verdict(thing=thing, name=name, reason=reason, size=ours.size))
            going += _leftovers(held, facts, rules)
        else:
            going.append(_goes(thing, name, ours, _why_release_goes(name, facts, rules)))
    needs = _Needs.of(facts, {item.name for item in staying})
    files = signed_files(facts.manifests.values())
    for address, held in facts.inventory.checkpoints.items():
        ours, theirs = held.split(signed_paths(held, files.get(_id16(address), {})))
        foreign += theirs
        if not ours.objects:
            continue
        reason = _why_checkpoint_stays(held, needs, facts, rules)
        if reason:
            thing = Thing.CHECKPOINT
            staying.append(Verdict(thing=thing, name=address, reason=reason, size=ours.size))
        else:
            going.append(_goes(Thing.CHECKPOINT, address, ours, needs.why_not(address)))
    return PrunePlan(going=tuple(going), staying=tuple(staying), foreign=tuple(sorted(foreign)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What the releases that stay need of the checkpoints that lie there.

    Attributes:
        keeper: A release that stays, by the address of the copy that it needs.
        shared: A release that stays, by the ``<id16>`` of what it needs.
        gone: A release that goes, by the ``<id16>`` of what it had.
    """

    keeper: Mapping[str, str]
    shared: Mapping[str, str]
    gone: Mapping[str, str]

    @classmethod
    def of(cls, facts: Facts, stays: Collection[str]) -> _Needs:
        keeper: dict[str, str] = {}
        shared: dict[str, str] = {}
        gone: dict[str, str] = {}
        for name, manifest in facts.manifests.items():
            for item in manifest.checkpoints:
                (shared if name in stays else gone)[item.identity.id16] = name
                if name in stays:
                    keeper |= dict.fromkeys(_copies_needed(name, item, facts), name)
        return cls(keeper=keeper, shared=shared, gone=gone)

    def why_not(self, address: str) -> str:
        """Say why nobody needs what lies there."""
        id16 = _id16(address)
        if id16 in self.shared:
            return f"a second copy: {self.shared[id16]} has it elsewhere"
        return f"of {self.gone[id16]} only"


def _copies_needed(name: str, checkpoint: Checkpoint, facts: Facts) -> list[str]:
    """Give the one copy that the release's marker names, if that is whole; else every copy."""
    there = facts.inventory.checkpoints
    home = facts.homes.get((name, checkpoint.name))
    if home is not None and home in there:
        sizes = {file.path: file.size for file in checkpoint.files}
        if signed_paths(there[home], sizes) == sizes.keys():
            return [home]
    return [address for address in there if _id16(address) == checkpoint.identity.id16]


def plan_uploads(uploads: Iterable[UnfinishedUpload], rules: Rules, *, now: int) -> PrunePlan:
    """Say which unfinished uploads are to be ended: those that nobody touched for long."""
    stale, going, staying = [], [], []
    for item in sorted(uploads):
        name = f"{item.key} ({item.upload_id[:16]})"
        if item.touched < rules.stale(now):
            reason = f"untouched for {age_text(now - item.touched)}"
            going.append(Verdict(thing=Thing.UPLOAD, name=name, reason=reason, size=item.size))
            stale.append(item)
        else:
            reason = f"touched within the last {age_text(rules.age)}"
            staying.append(Verdict(thing=Thing.UPLOAD, name=name, reason=reason, size=item.size))
    return PrunePlan(going=tuple(going), staying=tuple(staying), uploads=tuple(stale))


def _check_named(facts: Facts, rules: Rules) -> None:
    for name in rules.named:
        held = facts.inventory.releases.get(name)
        if held is None:
            there = ", ".join(sorted(facts.inventory.releases)) or "none"
            text = f"--release {printable(name)[:80]}: no such release in {facts.inventory.place}"
            raise MalformedError(text, hint=f"there are: {there}")
        reason = _why_in_use(name, held, facts)
        if reason:
            raise CheckError(f"release {name}: {reason}", hint="nothing was deleted")


def _check_known(facts: Facts) -> None:
    for name, reason in facts.in_use.items():
        if name not in facts.manifests:
            raise CheckError(
                f"release {name}: {reason}, and has no manifest in {facts.inventory.place}, so "
                "nobody can say which checkpoints it needs",
                hint="nothing was deleted; publish that release again",
            )


def _check_nobody_publishes(facts: Facts, rules: Rules) -> None:
    """Refuse where a release has no manifest yet: nobody knows which checkpoints it will name."""
    for name, held in facts.inventory.releases.items():
        if name not in facts.manifests and held.newest >= rules.stale(facts.now):
            raise CheckError(
                f"{held.place}: expected a manifest, sums and signature, got less, and it is "
                f"{age_text(facts.now - held.newest)} old: somebody may be publishing it",
                hint="nothing was deleted; publish it to its end, or wait until it is older than "
                "--older-than",
            )


def _why_in_use(name: str, held: Held, facts: Facts) -> str:
    if name in facts.in_use:
        return facts.in_use[name]
    return "stored values of the Helm release name it" if facts.names(held.place) else ""


def _is_ours(held: Held, facts: Facts) -> bool:
    return any(signature_name(key8) in held.objects for key8 in facts.key8s)


def _why_release_stays(name: str, held: Held, facts: Facts, rules: Rules) -> str:
    in_use = _why_in_use(name, held, facts)
    if in_use:
        return in_use
    if name not in facts.manifests and not _is_ours(held, facts):
        return "has no signature of a given key, so nobody can say whose it is"
    if rules.named and name not in rules.named:
        return "was not named"
    young = rules.why_young(held, facts.now)
    if young or rules.named or name not in facts.manifests:
        return young
    sequence = facts.manifests[name].release.sequence
    if sequence > facts.deployed:
        return "newer than what is deployed"
    sequences = sorted(item.release.sequence for item in facts.manifests.values())
    below = [item for item in reversed(sequences) if item <= facts.deployed]
    return f"one of the {rules.keep} to keep" if sequence in below[: rules.keep] else ""


def _why_release_goes(name: str, facts: Facts, rules: Rules) -> str:
    if rules.named:
        return "was named"
    if name not in facts.manifests:
        return "is not whole: has no manifest, or no sums"
    return f"sequence {facts.manifests[name].release.sequence}, older than the {rules.keep} to keep"


def _why_checkpoint_stays(held: Held, needs: _Needs, facts: Facts, rules: Rules) -> str:
    address = str(held.place)
    if address in needs.keeper:
        return f"of {needs.keeper[address]}"
    if facts.names(held.place):
        return "stored values of the Helm release name it"
    below, stale = f"{held.place.prefix}/", rules.stale(facts.now)
    if any(item.key.startswith(below) and item.touched >= stale for item in facts.uploads):
        return "somebody uploads to it"
    if rules.named and _id16(address) not in needs.gone:
        return "of no release that was named"
    return rules.why_young(held, facts.now)


def _leftovers(held: Held, facts: Facts, rules: Rules) -> Iterator[Verdict]:
    for path, item in held.objects.items():
        if is_check_name(path) and item.modified < rules.stale(facts.now):
            yield Verdict(
                thing=Thing.LEFTOVER,
                name=item.key,
                reason="of a publish that was killed",
                objects=(item,),
                size=item.size,
            )


def _id16(address: str) -> str:
    return address.rpartition("/")[2]


def _goes(thing: Thing, name: str, held: Held, reason: str) -> Verdict:
    objects = tuple(held.objects.values())
    return Verdict(thing=thing, name=name, reason=reason, objects=objects, size=held.size)
