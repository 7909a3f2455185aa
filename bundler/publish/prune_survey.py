"""Asking a destination and its cluster what may go. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bundler.errors import BundleError, CheckError, WorldError
from bundler.events import Emit, Noted, ignore
from bundler.manifest import Checkpoint
from bundler.publish.inventory import Held, Inventory, find_inventory, prefixes
from bundler.publish.layout import RECEIPTS, marker_content, marker_path, pointer_key
from bundler.publish.memory import Remembered, read_pointer
from bundler.publish.pointer import Pointer
from bundler.publish.prune import Facts, Rules, make_prune_plan, plan_uploads
from bundler.publish.prune_plan import PrunePlan
from bundler.publish.published import read_published
from bundler.receipt import MAX_RECEIPT_BYTES, decode_receipt
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease
from bundler.stores.base import ObjectStore
from bundler.stores.upkeep import Upkeep
from bundler.tools.helm_release import GOOD, Installed
from bundler.trust import Trust

T = TypeVar("T")
_PRECISELY = "or name precisely what is to go: --release NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSurvey:
    """Finds out what may go at a target.

    Attributes:
        store, upkeep: The bucket.
        place: The target's place in it.
        revisions: Asks the cluster what Helm keeps, the newest first.
        remembered: Asks the cluster what it remembers of what was deployed.
        trust: Whom to trust.
        rules: What the person wants to go.
        now: Seconds since 1970.
        emit: Told of what people should know.
    """

    store: ObjectStore
    upkeep: Upkeep
    place: S3Prefix
    revisions: Callable[[], Iterable[Installed]]
    remembered: Callable[[], Pointer | None]
    trust: Trust
    rules: Rules
    now: int
    emit: Emit = ignore

    def plan(self) -> PrunePlan:
        """Say what may go.

        Raises:
            UntrustedError: No key was given, or none of them signed a release that lies there.
            CheckError: It cannot be told what is in use, or a release is being published.
            BundleError: Something that must be known cannot be found out.
        """
        inventory = find_inventory(self.upkeep, self.place)
        releases = self._releases(inventory)
        remembered = self._remembered()
        facts = Facts(
            inventory=inventory,
            manifests={name: item.manifest for name, item in releases.items()},
            key8s={key.key8 for key in self.trust.signers.keys},
            in_use=dict(self._in_use(inventory, remembered)),
            addresses=self._addresses(remembered),
            deployed=min((each.sequence for each in remembered.deployed), default=0),
            uploads=[it for prefix in prefixes(self.place) for it in self.upkeep.uploads(prefix)],
            homes={} if self.rules.named else dict(self._homes(inventory, releases)),
            now=self.now,
        )
        return make_prune_plan(facts, self.rules)

    def _remembered(self) -> Remembered:
        """Read what bucket and cluster remember of what was deployed."""
        bucket = read_pointer(self.store, pointer_key(self.place))
        return Remembered(bucket=bucket, cluster=self._ask(self.remembered, None))

    def _ask(self, ask: Callable[[], T], otherwise: T) -> T:
        """Ask the cluster something; ``otherwise`` where it cannot be and need not.

        Raises:
            WorldError: It cannot be asked, and nothing was named precisely.
        """
        try:
            return ask()
        except WorldError as error:
            if not self.rules.named:
                raise WorldError(
                    f"{error}; so nobody can say what is deployed",
                    hint=f"nothing was deleted; {error.hint or 'mend that'}; {_PRECISELY}",
                ) from error
            self.emit(Noted(f"the cluster could not be asked what it runs: {error}"))
            return otherwise

    def _homes(
        self, inventory: Inventory, releases: Mapping[str, TrustedRelease]
    ) -> Iterator[tuple[tuple[str, str], str]]:
        """Find which of several copies of a checkpoint each release's marker names."""
        copies: dict[str, list[S3Prefix]] = {}
        for held in inventory.checkpoints.values():
            copies.setdefault(held.place.prefix.rpartition("/")[2], []).append(held.place)
        for name, release in releases.items():
            held = inventory.releases[name]
            for item in release.manifest.checkpoints:
                places = copies.get(item.identity.id16, [])
                if len(places) > 1 and (home := self._marked(held, item, places)):
                    yield (name, item.name), str(home)

    def _marked(
        self, held: Held, checkpoint: Checkpoint, places: Iterable[S3Prefix]
    ) -> S3Prefix | None:
        expected = {marker_content(checkpoint, place): place for place in places}
        marker = held.objects.get(marker_path(checkpoint))
        if marker is None or marker.size not in map(len, expected):
            return None
        return expected.get(self.store.get(marker.key, limit=marker.size))

    def plan_uploads(self) -> PrunePlan:
        """Say which unfinished uploads are to be ended; asks nothing but the bucket."""
        found = (item for prefix in prefixes(self.place) for item in self.upkeep.uploads(prefix))
        return plan_uploads(found, self.rules, now=self.now)

    def _releases(self, inventory: Inventory) -> dict[str, TrustedRelease]:
        """Read every release that can be read; one that nobody vouches for stops all."""
        try:
            return {
                name: read_published(self.store, held, self.trust)
                for name, held in inventory.releases.items()
                if held.is_readable
            }
        except WorldError:
            raise
        except BundleError as error:
            hint = "nothing was deleted: what it needs is not known; " + (error.hint or "")
            raise type(error)(str(error), hint=hint) from error

    def _in_use(self, inventory: Inventory, remembered: Remembered) -> Iterator[tuple[str, str]]:
        current = [each.release for each in remembered.deployed]
        others = {name: held for name, held in inventory.releases.items() if name not in current}
        before = self._deployed_last(others)
        if before is not None:
            yield before, "was deployed before, so one goes back to it"
        for name in current:
            yield name, "is deployed, as bucket or cluster remember"

    def _deployed_last(self, releases: Mapping[str, Held]) -> str | None:
        """Find the release whose chart was installed last, by the receipts that lie there."""
        receipts = [
            (path, name, held)
            for name, held in releases.items()
            for path in held.objects
            if path.startswith(RECEIPTS)
        ]
        for path, name, held in sorted(receipts, key=lambda item: item[0], reverse=True):
            key = held.place.key(path)
            content = self.store.get(key, limit=MAX_RECEIPT_BYTES)
            if decode_receipt(content, name=key).chart is not None:
                return name
        return None

    def _addresses(self, remembered: Remembered) -> tuple[str, ...]:
        """Give what values name that the cluster runs, or goes back to.

        Raises:
            WorldError: The cluster cannot be asked, and nothing was named precisely.
            CheckError: It has no such release, though one was deployed.
        """
        nothing: list[Mapping[str, object]] = []
        used = self._ask(lambda: used_values(self.revisions()), nothing)
        if not used and remembered.deployed and not self.rules.named:
            raise CheckError(
                f"{self.place}: {remembered.deployed[0].release} was deployed, "
                "and the cluster has no such Helm release",
                hint="nothing was deleted; is it the right cluster and namespace (kubernetes in "
                f"the target)? {_PRECISELY}",
            )
        return tuple(sorted(text for values in used for text in s3_addresses(values)))


def used_values(revisions: Iterable[Installed]) -> list[Mapping[str, object]]:
    """Choose the values that are in use: the newest, and those that one goes back to.

    Args:
        revisions: Newest first.

    Returns:
        Those of the newest, of the last good one, and of the last good one before it that was of
        another release.
    """
    used: list[Mapping[str, object]] = []
    good: list[Mapping[str, object]] = []
    for revision in revisions:
        if not used:
            used.append(revision.values)
        if revision.status in GOOD:
            good.append(revision.values)
            if good[-1].get("release") != good[0].get("release"):
                break
    return used + ([good[0], good[-1]] if good else [])


def s3_addresses(value: object) -> set[str]:
    """Find every text in some values that is an address in S3."""
    if isinstance(value, str):
        return {value} if value.startswith("s3://") else set()
    if isinstance(value, Mapping):
        return set().union(*map(s3_addresses, value.values()))
    if isinstance(value, list):
        return set().union(*map(s3_addresses, value))
    return set()
