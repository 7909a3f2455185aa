"""What of a destination may go. Pure: nothing is asked or deleted here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bundler.errors import CheckError, NotFoundError, printable
from bundler.manifest import Manifest
from bundler.publish.ages import age_text
from bundler.publish.inventory import Held, Inventory
from bundler.publish.prune_plan import PrunePlan, Thing, Verdict
from bundler.reference import S3Prefix
from bundler.stores.upkeep import UnfinishedUpload

# What publish leaves behind where it is killed while it finds out what a server is like.
_CHECK_OBJECT = ".bundle-check-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a person wants to go.

    Attributes:
        keep: How many releases stay, counted from the deployed one down; newer ones stay too.
        older_than: Seconds; nothing younger goes, as somebody may be at work on it.
        named: The releases that are to go, and nothing else; empty to go by ``keep``.
    """

    keep: int = 2
    older_than: int = 7 * 86400
    named: tuple[str, ...] = ()

    def stale(self, now: int) -> int:
        """Give the time, in seconds since 1970, before which everything is old enough to go."""
        return now - self.older_than


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a destination.

    Attributes:
        inventory: What lies there.
        manifests: Of every release that was verified, by its name.
        in_use: Why a release must not go, by its name: deployed, or what one goes back to.
        addresses: What values name that a cluster runs, or goes back to: ``s3://…``.
        deployed: The sequence that is deployed; 0 for none.
        uploads: Unfinished ones.
        now: Seconds since 1970.
    """

    inventory: Inventory
    manifests: Mapping[str, Manifest]
    in_use: Mapping[str, str] = field(default_factory=dict)
    addresses: Sequence[str] = ()
    deployed: int = 0
    uploads: Sequence[UnfinishedUpload] = ()
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
        NotFoundError: A release that was named is not there.
    """
    _check_named(facts, rules)
    _check_known(facts)
    _check_nobody_publishes(facts, rules)
    going: list[Verdict] = []
    staying: list[Verdict] = []
    kept: dict[str, str] = {}
    for name, held in facts.inventory.releases.items():
        reason = _why_release_stays(name, held, facts, rules)
        thing = Thing.RELEASE if name in facts.manifests else Thing.REMAINS
        if reason:
            staying.append(Verdict(thing=thing, name=name, reason=reason, size=held.size))
            going += _leftovers(held, facts, rules)
            if name in facts.manifests:
                kept |= dict.fromkeys(_identities(facts.manifests[name]), name)
        else:
            going.append(_goes(thing, name, held, _why_release_goes(name, facts, rules)))
    gone = {id16: name for name, item in facts.manifests.items() for id16 in _identities(item)}
    for address, held in facts.inventory.checkpoints.items():
        id16 = address.rpartition("/")[2]
        reason = _why_checkpoint_stays(held, kept.get(id16), gone.get(id16), facts, rules)
        if reason:
            thing = Thing.CHECKPOINT
            staying.append(Verdict(thing=thing, name=address, reason=reason, size=held.size))
        else:
            of = f"of {gone[id16]} only" if id16 in gone else "of no release here"
            going.append(_goes(Thing.CHECKPOINT, address, held, of))
    return PrunePlan(
        going=tuple(going), staying=tuple(staying), foreign=len(facts.inventory.foreign)
    )


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
            reason = f"touched within the last {age_text(rules.older_than)}"
            staying.append(Verdict(thing=Thing.UPLOAD, name=name, reason=reason, size=item.size))
    return PrunePlan(going=tuple(going), staying=tuple(staying), uploads=tuple(stale))


def _check_named(facts: Facts, rules: Rules) -> None:
    for name in rules.named:
        held = facts.inventory.releases.get(name)
        if held is None:
            there = ", ".join(sorted(facts.inventory.releases)) or "none"
            text = f"--release {printable(name)[:80]}: no such release in {facts.inventory.place}"
            raise NotFoundError(text, hint=f"there are: {there}")
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


def _why_release_stays(name: str, held: Held, facts: Facts, rules: Rules) -> str:
    in_use = _why_in_use(name, held, facts)
    if in_use:
        return in_use
    if rules.named:
        return "" if name in rules.named else "was not named"
    if held.newest >= rules.stale(facts.now):
        return f"stored within the last {age_text(rules.older_than)}"
    if name not in facts.manifests:
        return ""
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
        return "has no manifest, or no signature"
    return f"sequence {facts.manifests[name].release.sequence}, older than the {rules.keep} to keep"


def _why_checkpoint_stays(
    held: Held, keeper: str | None, of: str | None, facts: Facts, rules: Rules
) -> str:
    if keeper is not None:
        return f"of {keeper}"
    if facts.names(held.place):
        return "stored values of the Helm release name it"
    below, stale = f"{held.place.prefix}/", rules.stale(facts.now)
    if any(item.key.startswith(below) and item.touched >= stale for item in facts.uploads):
        return "somebody uploads to it"
    if rules.named:
        return "" if of is not None else "of no release that was named"
    return f"stored within the last {age_text(rules.older_than)}" if held.newest >= stale else ""


def _leftovers(held: Held, facts: Facts, rules: Rules) -> Iterator[Verdict]:
    for path, item in held.objects.items():
        if path.startswith(_CHECK_OBJECT) and item.modified < rules.stale(facts.now):
            yield Verdict(
                thing=Thing.LEFTOVER,
                name=item.key,
                reason="of a publish that was killed",
                objects=(item,),
                size=item.size,
            )


def _identities(manifest: Manifest) -> Iterator[str]:
    return (item.identity.id16 for item in manifest.checkpoints)


def _goes(thing: Thing, name: str, held: Held, reason: str) -> Verdict:
    objects = tuple(held.objects.values())
    return Verdict(thing=thing, name=name, reason=reason, objects=objects, size=held.size)
