from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    CheckError,
    ContentError,
    MalformedError,
    UntrustedError,
    WorldError,
)
from bundler.publish.ages import age_text, parse_age
from bundler.publish.inventory import take_inventory
from bundler.publish.pointer import Deployed, Pointer
from bundler.publish.prune import Facts, Rules, make_prune_plan
from bundler.publish.prune_carry_out import Pruned, prune
from bundler.publish.prune_plan import PrunePlan, Thing, by_folder
from bundler.publish.prune_survey import PruneSurvey, s3_addresses, used_values
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease, signature_name
from bundler.stores.upkeep import HeldObject, UnfinishedUpload
from bundler.tools.helm_release import Installed
from bundler.trust import NOBODY, Trust
from tests.memory_store import MemoryStore
from tests.memory_upkeep import MemoryUpkeep
from tests.published import Published
from tests.unit.small_files import new_key

DAY = 86400
NOW = 100 * DAY
KEY = new_key()
A, B, C, D = ({"model.safetensors": text.encode() * 9, "config.json": b"{}"} for text in "abcd")


class Place:
    """A destination at which releases 1 to 4 were deployed, one after another, long ago.

    Each has a checkpoint of its own; "shared" is of 1 and 4.
    """

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore()
        self.upkeep = MemoryUpkeep(self.store, now=NOW - 30 * DAY)
        directory.mkdir(exist_ok=True)
        self.published = Published(self.store, directory, key=KEY)
        for sequence, own in enumerate((A, B, C, D), 1):
            checkpoints = {"own": own} | ({"shared": {"x": b"x"}} if sequence in {1, 4} else {})
            self.published.publish(
                sequence, checkpoints, deployed_at=f"2026-11-0{sequence}T00:00:00Z"
            )
        self.remembered: Callable[[], Pointer | None] = lambda: None
        self.revisions: Callable[[], Iterator[Installed]] = lambda: iter(self.helm)
        self.helm = [self.published.installed(self.release(n), n) for n in (4, 3, 2, 1)]

    def release(self, sequence: int) -> TrustedRelease:
        return self.published.releases[f"demo-1.0.{sequence}"]

    def survey(self, rules: Rules) -> PruneSurvey:
        return PruneSurvey(
            store=self.store,
            upkeep=self.upkeep,
            place=self.published.target.s3.place,
            revisions=self.revisions,
            remembered=self.remembered,
            trust=Trust.of_keys([self.published.key.public]),
            rules=rules,
            now=NOW,
        )

    def plan(self, **rules: object) -> PrunePlan:
        return self.survey(Rules(**rules)).plan()  # type: ignore[arg-type]

    def prefix(self, sequence: int, checkpoint: str = "own") -> str:
        release = self.published.releases[f"demo-1.0.{sequence}"]
        return self.published.layout(release).checkpoints[checkpoint].prefix + "/"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("deployed"))


def going(plan: PrunePlan, thing: Thing) -> list[str]:
    return [item.name for item in plan.going if item.thing is thing]


def reason(plan: PrunePlan, name: str) -> str:
    return next(item.reason for item in plan.staying if item.name.endswith(name))


def test_only_what_no_kept_release_needs_goes(place: Place) -> None:
    plan = place.plan(keep=2)
    assert going(plan, Thing.RELEASE) == ["demo-1.0.1", "demo-1.0.2"]
    assert going(plan, Thing.CHECKPOINT) == [
        f"s3://models/{place.prefix(n)}".rstrip("/")
        for n in sorted((1, 2), key=lambda n: place.prefix(n))
    ]
    shared = place.prefix(1, "shared")
    assert reason(plan, shared.rstrip("/")) == "of demo-1.0.4"
    before = place.published.keys()
    assert prune(plan, place.upkeep) == Pruned(deleted=len(place.upkeep.removed))
    gone = before - place.published.keys()
    assert {key for key in gone if "checkpoints" in key} == {
        f"{place.prefix(n)}{name}" for n in (1, 2) for name in A
    }
    assert place.plan(keep=2).going == ()


def test_keeping_more_deletes_less_and_the_deployed_one_never(place: Place) -> None:
    assert going(place.plan(keep=3), Thing.RELEASE) == ["demo-1.0.1"]
    assert place.plan(keep=4).going == ()
    plan = place.plan(keep=1)
    assert "demo-1.0.4" not in going(plan, Thing.RELEASE)
    assert reason(plan, "demo-1.0.3").startswith("was deployed before")


def test_what_one_goes_back_to_is_told_by_the_receipts_that_installed_a_chart(place: Place) -> None:
    place.helm = place.helm[:1]
    place.published.point(place.published.releases["demo-1.0.4"])
    assert "demo-1.0.3" not in going(place.plan(keep=1), Thing.RELEASE)
    prefix = "llm/releases/demo-1.0.3/receipts/"
    (receipt,) = (item.key for item in place.store.list(prefix))
    place.store.delete(receipt)
    place.published.leave_receipt(place.release(3), "2026-11-09T00:00:00Z", installed=False)
    plan = place.plan(keep=1)
    assert "demo-1.0.3" in going(plan, Thing.RELEASE)
    assert reason(plan, "demo-1.0.2").startswith("was deployed before")


def test_a_release_newer_than_the_deployed_one_stays(place: Place) -> None:
    place.published.publish(9, {"own": {"x": b"to come"}})
    assert reason(place.plan(keep=1), "demo-1.0.9") == "newer than what is deployed"


def test_what_stored_values_name_stays_though_its_release_is_old(place: Place) -> None:
    place.helm = [place.published.installed(place.published.releases["demo-1.0.2"], 7)]
    plan = place.plan(keep=1)
    assert going(plan, Thing.RELEASE) == ["demo-1.0.1"]
    assert reason(plan, "demo-1.0.2") == "stored values of the Helm release name it"
    place.store.delete("llm/releases/demo-1.0.2/MANIFEST.json")
    plan = place.plan(keep=1)
    assert {f"{place.prefix(2)}{name}" for name in B} <= {item.key for item in plan.foreign}


def test_a_place_above_or_below_one_that_values_name_stays(place: Place) -> None:
    address = f"s3://models/{place.prefix(1)}"
    for text in (address, f"{address}sub", "s3://models/llm/checkpoints", "s3://models"):
        place.helm[0] = replace(place.helm[0], values={"extra": [{"deep": text}]})
        assert address.rstrip("/") not in going(place.plan(keep=2), Thing.CHECKPOINT)
    place.helm[0] = replace(place.helm[0], values={"extra": address.rstrip("/") + "0"})
    assert address.rstrip("/") in going(place.plan(keep=2), Thing.CHECKPOINT)


@pytest.mark.parametrize("what", ["Helm", "memory"])
def test_nothing_goes_where_the_cluster_cannot_be_asked(place: Place, what: str) -> None:
    def refuse(_: int) -> NoReturn:
        raise WorldError("no route")

    if what == "Helm":
        place.revisions = lambda: map(refuse, [1])
    else:
        place.remembered = lambda: next(map(refuse, [1]))
    with pytest.raises(WorldError, match="nobody can say what is deployed") as caught:
        place.plan(keep=2)
    assert "--release NAME" in str(caught.value.hint)
    plan = place.plan(named=("demo-1.0.2",))
    assert going(plan, Thing.RELEASE) == ["demo-1.0.2"]
    assert going(plan, Thing.CHECKPOINT) == [f"s3://models/{place.prefix(2)}".rstrip("/")]


def test_what_the_cluster_remembers_stays_whatever_the_bucket_says(place: Place) -> None:
    second = place.release(2)
    deployed = Deployed(release="demo-1.0.2", manifest=Digest.of(second.manifest_bytes), sequence=2)
    place.remembered = lambda: Pointer(deployed=deployed, highest=4)
    plan = place.plan(keep=1)
    assert reason(plan, "demo-1.0.2").startswith("is deployed")
    assert reason(plan, "demo-1.0.4").startswith("is deployed")
    assert going(plan, Thing.RELEASE) == ["demo-1.0.1"]
    with pytest.raises(CheckError, match=r"demo-1\.0\.2: is deployed"):
        place.plan(named=("demo-1.0.2",))


def test_nothing_goes_where_the_cluster_knows_of_no_release_that_was_deployed(place: Place) -> None:
    place.helm = []
    with pytest.raises(CheckError, match="the cluster has no such Helm release"):
        place.plan(keep=2)


@pytest.mark.parametrize(("name", "why"), [("demo-1.0.4", "is deployed"), ("demo-1.0.3", "before")])
def test_what_is_in_use_does_not_go_though_it_is_named(place: Place, name: str, why: str) -> None:
    with pytest.raises(CheckError, match=why):
        place.plan(named=(name,))


def test_an_age_that_is_given_holds_for_what_was_named_too(place: Place) -> None:
    weights, small = f"{place.prefix(1)}config.json", "llm/releases/demo-1.0.1/SHA256SUMS"
    place.upkeep.times |= {weights: NOW - DAY, small: NOW - DAY}
    named = ("demo-1.0.1", "demo-1.0.2")
    assert going(place.plan(named=named), Thing.RELEASE) == list(named)
    plan = place.plan(named=named, older_than=2 * DAY)
    assert going(plan, Thing.RELEASE) == ["demo-1.0.2"]
    assert reason(plan, "demo-1.0.1") == "stored within the last 2d"
    assert reason(plan, place.prefix(1).rstrip("/")) == "of demo-1.0.1"
    place.upkeep.times[small] = NOW - 3 * DAY
    plan = place.plan(named=named, older_than=2 * DAY)
    assert going(plan, Thing.RELEASE) == list(named)
    assert reason(plan, place.prefix(1).rstrip("/")) == "stored within the last 2d"


def test_a_name_that_is_not_there_is_told(place: Place) -> None:
    with pytest.raises(MalformedError, match=r"demo-7: no such release") as caught:
        place.plan(named=("demo-7",))
    assert "demo-1.0.1" in str(caught.value.hint)


def test_what_is_young_stays(place: Place) -> None:
    young = f"{place.prefix(1)}config.json"
    place.upkeep.times[young] = NOW - DAY
    plan = place.plan(keep=2)
    assert reason(plan, place.prefix(1).rstrip("/")) == "stored within the last 7d"
    place.upkeep.times["llm/releases/demo-1.0.2/SHA256SUMS"] = NOW - DAY
    plan = place.plan(keep=2)
    assert going(plan, Thing.RELEASE) == ["demo-1.0.1"]
    assert reason(plan, place.prefix(2).rstrip("/")) == "of demo-1.0.2"


def test_a_checkpoint_that_somebody_uploads_to_stays(place: Place) -> None:
    upload = UnfinishedUpload(
        key=f"{place.prefix(1)}new", upload_id="u", begun=0, touched=NOW - 60, parts=1, size=5
    )
    place.upkeep.unfinished = [upload]
    assert reason(place.plan(keep=2), place.prefix(1).rstrip("/")) == "somebody uploads to it"
    place.upkeep.unfinished = [replace(upload, touched=NOW - 8 * DAY)]
    assert f"s3://models/{place.prefix(1)}".rstrip("/") in going(
        place.plan(keep=2), Thing.CHECKPOINT
    )


def test_a_release_whose_manifest_is_yet_to_come_stops_all(place: Place) -> None:
    key = "llm/releases/demo-1.0.5/MANIFEST.json"
    place.store.put(key, b"{}")
    place.upkeep.times[key] = NOW - 60
    with pytest.raises(CheckError, match="somebody may be publishing it"):
        place.plan(keep=2)
    place.upkeep.times[key] = NOW - 8 * DAY
    plan = place.plan(keep=2)
    assert going(plan, Thing.REMAINS) == []
    assert (
        reason(plan, "demo-1.0.5")
        == "has no signature of a given key, so nobody can say whose it is"
    )
    place.store.put("llm/releases/demo-1.0.5/SHA256SUMS.0123abcd.sig", b"s")
    assert going(place.plan(keep=2), Thing.REMAINS) == []
    place.store.put(f"llm/releases/demo-1.0.5/{signature_name(KEY.public.key8)}", b"s")
    assert going(place.plan(keep=2), Thing.REMAINS) == ["demo-1.0.5"]


def test_a_release_in_use_without_its_manifest_stops_all(place: Place) -> None:
    place.store.delete("llm/releases/demo-1.0.4/MANIFEST.json")
    with pytest.raises(CheckError, match="nobody can say which checkpoints it needs"):
        place.plan(keep=2)


def test_nobody_is_believed_without_a_key_that_signed(place: Place) -> None:
    survey = place.survey(Rules(keep=2))
    for trust in (NOBODY, Trust.of_keys([new_key().public])):
        with pytest.raises(UntrustedError) as caught:
            replace(survey, trust=trust).plan()
        assert "nothing was deleted" in str(caught.value.hint)


def test_a_release_below_the_name_of_another_is_refused(place: Place) -> None:
    for item in list(place.store.list("llm/releases/demo-1.0.1/")):
        content = place.store.get(item.key, limit=1 << 20)
        place.store.put(item.key.replace("1.0.1", "1.0.8"), content)
    with pytest.raises(ContentError, match=r"expected the release demo-1\.0\.8, got demo-1\.0\.1"):
        place.plan(keep=2)


def foreign_keys(place: Place) -> list[str]:
    """Give keys of other people below our prefixes: of no shape of ours, and of nearly ours."""
    weights = place.prefix(1)
    return [
        "llm/checkpoints/readme",
        "llm/releases/notes",
        "llm/checkpoints/K/0/x",
        "llm/releases/other-product/app.zip",
        "llm/releases/other-product/MANIFEST.json",
        "llm/releases/other-product/complete/job.json",
        "llm/releases/demo-1.0.4x/data/x.bin",
        "llm/releases/demo-1.0.1/notes/runbook.txt",
        "llm/releases/demo-1.0.1/SHA256SUMS.sig",
        "llm/releases/demo-1.0.1/SHA256SUMS.0123abcd.sig.bak",
        "llm/releases/demo-1.0.1/MANIFEST.json.sigstore.json",
        "llm/releases/demo-1.0.1/sub/MANIFEST.json",
        "llm/releases/demo-1.0.1//MANIFEST.json",
        "llm/releases/demo-1.0.1/complete/",
        "llm/releases/demo-1.0.1/complete/nightly.json",
        "llm/releases/demo-1.0.1/complete/own.json.bak",
        "llm/releases/demo-1.0.1/receipts/lunch.json",
        "llm/releases/demo-1.0.1/.bundle-check-list",
        f"{weights}our-own-eval/results.json",
        f"{weights}model.safetensors.bak",
        f"{weights}sub/config.json",
        f"{weights.replace('/own/', '/theirs/')}config.json",
        "llm/checkpoints/run/0123456789abcdef/step1.pt",
    ]


def test_foreign_objects_stay_and_are_named(place: Place, tmp_path: Path) -> None:
    clean = Place(tmp_path / "clean")
    prune(clean.plan(keep=2), clean.upkeep)
    left = clean.published.keys()
    foreign = foreign_keys(place)
    for key in foreign:
        place.store.put(key, b"theirs")
    plan = place.plan(keep=2)
    named = {item.key for item in plan.foreign}
    unsigned = {key for key in foreign if "other-product/" in key and not key.endswith(".zip")}
    assert named == set(foreign) - unsigned
    assert reason(plan, "other-product").startswith("has no signature")
    assert plan.to_dict()["foreign"] == sorted(named)
    prune(plan, place.upkeep)
    assert place.published.keys() == left | set(foreign)
    again = place.plan(keep=2)
    assert again.going == ()
    prune(again, place.upkeep)
    assert place.published.keys() == left | set(foreign)


def test_foreign_objects_stay_though_a_release_was_named(place: Place) -> None:
    foreign = foreign_keys(place)
    for key in foreign:
        place.store.put(key, b"theirs")
    prune(place.plan(named=("demo-1.0.1",)), place.upkeep)
    assert place.published.keys() >= set(foreign)
    assert place.store.head(f"{place.prefix(1)}model.safetensors") is None


def test_a_place_that_is_the_whole_bucket_keeps_what_is_foreign() -> None:
    keys = ["releases/app/app.zip", "checkpoints/run/0123456789abcdef/step1.pt", "releases/a/b/c"]
    objects = [HeldObject(key, 1, 0) for key in keys]
    inventory = take_inventory(S3Prefix("models", ""), objects)
    plan = make_prune_plan(Facts(inventory=inventory, manifests={}, now=NOW), Rules())
    assert plan.going == ()
    assert [item.key for item in plan.foreign] == sorted(keys)


def test_an_object_beside_the_place_is_foreign() -> None:
    keys = ["releases/demo/SHA256SUMS", "llm2/releases/demo/SHA256SUMS"]
    objects = [HeldObject(key, 1, 0) for key in keys]
    assert take_inventory(S3Prefix("models", "llm"), objects).releases == {}


_STEPS = (
    st.sampled_from(["releases", "checkpoints", "complete", "receipts", "trust", "own", "shared"])
    | st.sampled_from(["demo-1.0.1", "demo-1.0.3", "0123456789abcdef", "", ".", "current.json"])
    | st.sampled_from(["MANIFEST.json", "SHA256SUMS", "config.json", "own.json"])
    | st.sampled_from(["model.safetensors", "SHA256SUMS.0123abcd.sig"])
    | st.text("ab.-_/0é", max_size=9)
)


@given(steps=st.lists(_STEPS | st.none(), min_size=1, max_size=5), named=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_plan_names_nothing_that_publish_did_not_put_there(
    deployed: Place, steps: list[str | None], named: bool
) -> None:
    ours = deployed.published.keys()
    id16 = deployed.prefix(1).rstrip("/").rpartition("/")[2]
    key = "/".join(["llm", *(id16 if step is None else step for step in steps)])
    assume(key not in ours and not key.startswith("llm/releases/demo-1.0.1/SHA256SUMS."))
    require_kept(deployed, key, Rules(named=("demo-1.0.1",)) if named else Rules(keep=2))


@given(number=st.integers(0, 99), at=st.integers(0, 99), text=st.sampled_from("x~./ "))
@settings(max_examples=300, deadline=None)
def test_a_key_that_is_one_character_longer_than_one_of_ours_stays(
    deployed: Place, number: int, at: int, text: str
) -> None:
    ours = sorted(deployed.published.keys())
    key = ours[number % len(ours)]
    at = len("llm/checkpoints/") + at % (len(key) - len("llm/checkpoints/") + 1)
    key = key[:at] + text + key[at:]
    assume(not re.fullmatch(r".*/SHA256SUMS\.[0-9a-f]{8}\.sig", key))
    require_kept(deployed, key, Rules(keep=2))


def require_kept(place: Place, key: str, rules: Rules) -> None:
    ours = place.published.keys()
    place.store.put(key, b"theirs")
    try:
        plan = place.survey(rules).plan()
    except BundleError:
        return  # a file that no key signed stops all
    finally:
        place.store.delete(key)
    assert plan.going
    assert {item.key for verdict in plan.going for item in verdict.objects} <= ours


def test_a_checkpoint_of_no_release_stays_however_old_and_is_named(place: Place) -> None:
    key = "llm/checkpoints/gone/0123456789abcdef/model.safetensors"
    place.store.put(key, b"w")
    for plan in (place.plan(keep=2), place.plan(named=("demo-1.0.1",))):
        assert [item.key for item in plan.foreign] == [key]
        assert by_folder(plan.foreign) == ["llm/checkpoints/gone/0123456789abcdef/ (1 object, 1 B)"]


def copy_of(place: Place, sequence: int, checkpoint: str = "own") -> str:
    """Put a second copy of a release's checkpoint below the key of a model served once."""
    source = place.prefix(sequence, checkpoint)
    prefix = source.replace(f"/{checkpoint}/", "/aaa/")
    for item in list(place.store.list(source)):
        content = place.store.get(item.key, limit=1 << 20)
        place.store.put(prefix + item.key.removeprefix(source), content)
    return f"s3://models/{prefix}".rstrip("/")


def test_a_second_copy_of_what_a_kept_release_has_elsewhere_goes(place: Place) -> None:
    address = copy_of(place, 4)
    plan = place.plan(keep=2)
    (verdict,) = (item for item in plan.going if item.name == address)
    assert verdict.reason == "a second copy: demo-1.0.4 has it elsewhere"
    assert reason(plan, place.prefix(4).rstrip("/")) == "of demo-1.0.4"
    place.helm[0] = replace(place.helm[0], values={"extra": address})
    assert address not in going(place.plan(keep=2), Thing.CHECKPOINT)


def test_a_second_copy_stays_where_a_release_was_named_that_shares_it(place: Place) -> None:
    address = copy_of(place, 4, "shared")
    assert address not in going(place.plan(named=("demo-1.0.1",)), Thing.CHECKPOINT)
    assert address in going(place.plan(keep=2), Thing.CHECKPOINT)


def test_a_second_copy_stays_while_it_is_young(place: Place) -> None:
    address = copy_of(place, 4)
    place.upkeep.times[f"{address.removeprefix('s3://models/')}/config.json"] = NOW
    assert address not in going(place.plan(keep=2), Thing.CHECKPOINT)


@pytest.mark.parametrize("spoil", ["marker gone", "marker other", "file gone", "file other"])
def test_every_copy_stays_where_none_is_proven_to_be_the_one(place: Place, spoil: str) -> None:
    address = copy_of(place, 4)
    marker = "llm/releases/demo-1.0.4/complete/own.json"
    key = marker if "marker" in spoil else f"{place.prefix(4)}model.safetensors"
    content = place.store.get(key, limit=1 << 20)
    place.store.delete(key)
    if "other" in spoil:
        place.store.put(key, content.swapcase() if key == marker else content + b"x")
    for copy in (address, f"s3://models/{place.prefix(4)}".rstrip("/")):
        assert copy not in going(place.plan(keep=2), Thing.CHECKPOINT)


def test_what_a_killed_check_of_the_store_left_goes(place: Place) -> None:
    key = "llm/releases/demo-1.0.4/.bundle-check-0011223344556677"
    place.store.put(key, b"wrong")
    assert going(place.plan(keep=4), Thing.LEFTOVER) == [key]
    place.upkeep.times[key] = NOW
    assert going(place.plan(keep=4), Thing.LEFTOVER) == []


def test_markers_go_first_and_a_releases_signatures_last(place: Place) -> None:
    first, second, third, last = place.plan(keep=2).batches()
    assert first == [
        f"llm/releases/demo-1.0.{n}/complete/{name}.json"
        for n, name in ((1, "own"), (1, "shared"), (2, "own"))
    ]
    assert all(key.startswith("llm/checkpoints/") for key in second)
    assert {key.rpartition("/")[2] for key in third} >= {"MANIFEST.json", "SHA256SUMS"}
    assert [key.rpartition(".")[2] for key in last] == ["sig", "sig"]
    assert len({*first, *second, *third, *last}) == len([*first, *second, *third, *last])


class KilledError(BaseException):
    """Stands for a signal that nobody can catch."""


def test_whatever_ends_it_between_nothing_looks_complete_and_the_next_run_ends_it(
    tmp_path: Path,
) -> None:
    whole = Place(tmp_path / "whole")
    prune(whole.plan(keep=2), whole.upkeep)
    count = len(whole.upkeep.removed)
    assert count > 10
    for number in range(count):
        place = Place(tmp_path / str(number))
        left = number

        class Killed(MemoryUpkeep):
            def remove(self, key: str) -> bool:
                nonlocal left
                if left <= 0:
                    raise KilledError
                left -= 1
                return super().remove(key)

        killed = Killed(place.store)
        with pytest.raises(KilledError):
            prune(place.plan(keep=2), killed)
        for name, release in place.published.releases.items():
            layout = place.published.layout(release)
            for checkpoint in release.manifest.checkpoints:
                if place.store.head(layout.marker(checkpoint)) is not None:
                    prefix = layout.checkpoints[checkpoint.name]
                    for file in checkpoint.files:
                        assert place.store.head(prefix.key(file.path)), name
        prune(place.plan(keep=2), place.upkeep)
        assert place.published.keys() == whole.published.keys()


def test_objects_that_only_a_marker_hides_are_not_called_deleted(place: Place) -> None:
    place.upkeep.versioned = True
    plan = place.plan(keep=2)
    pruned = prune(plan, place.upkeep)
    assert (pruned.deleted, pruned.hidden) == (0, len(place.upkeep.removed))


def test_uploads_end_by_age_and_nothing_else_does(place: Place) -> None:
    def upload(name: str, touched: int) -> UnfinishedUpload:
        key = f"llm/checkpoints/{name}"
        return UnfinishedUpload(key=key, upload_id=name, begun=0, touched=touched, parts=2, size=10)

    old, young = upload("old", NOW - 8 * DAY), upload("young", NOW - 6 * DAY)
    elsewhere = replace(old, key="other/old")
    place.upkeep.unfinished = [old, young, elsewhere]
    before = place.published.keys()
    plan = place.survey(Rules()).plan_uploads()
    assert plan.uploads == (old,)
    assert plan.size == 10
    assert prune(plan, place.upkeep) == Pruned(ended=1)
    assert place.upkeep.unfinished == [young, elsewhere]
    assert place.published.keys() == before


def test_an_upload_that_outlives_its_end_is_told(place: Place) -> None:
    class Stubborn(MemoryUpkeep):
        def end(self, upload: UnfinishedUpload) -> bool:
            return False

    upload = UnfinishedUpload(
        key="llm/checkpoints/a", upload_id="u", begun=0, touched=0, parts=1, size=1
    )
    place.upkeep.unfinished = [upload]
    plan = place.survey(Rules()).plan_uploads()
    with pytest.raises(WorldError, match="llm/checkpoints/a"):
        prune(plan, Stubborn(place.store))


def test_a_plan_knows_whether_the_same_goes(place: Place) -> None:
    plan = place.plan(keep=2)
    assert plan.same_as(place.plan(keep=2))
    place.store.put(f"{place.prefix(1)}more", b"x")
    assert plan.same_as(place.plan(keep=2))
    place.upkeep.times[f"{place.prefix(1)}config.json"] = NOW - 9 * DAY
    assert not plan.same_as(place.plan(keep=2))


def test_values_in_use_are_the_newest_and_those_to_go_back_to() -> None:
    def revision(number: int, status: str, name: str) -> Installed:
        values = {"release": {"name": name}, "revision": number}
        return Installed(revision=number, status=status, chart="c", values=values)

    history = [
        revision(9, "failed", "D"),
        revision(8, "deployed", "C"),
        revision(7, "superseded", "C"),
        revision(6, "failed", "X"),
        revision(5, "superseded", "B"),
        revision(4, "superseded", "A"),
    ]
    assert [values["revision"] for values in used_values(history)] == [9, 8, 5]
    assert [values["revision"] for values in used_values(history[1:3])] == [8, 8, 7]
    assert used_values([]) == []


def test_addresses_are_found_wherever_values_have_them() -> None:
    values = {"a": "s3://b/c", "d": [{"e": "s3://b/f"}, 1, None], "g": "https://s3"}
    assert s3_addresses(values) == {"s3://b/c", "s3://b/f"}


def test_ages() -> None:
    assert [parse_age(text) for text in ("7d", "12h", "30m", "5s", "2w")] == [
        7 * DAY,
        12 * 3600,
        1800,
        5,
        14 * DAY,
    ]
    for text in ("", "7", "d", "-1d", "1.5d", "7 d", "99999999d"):
        with pytest.raises(ValueError, match="expected an age"):
            parse_age(text)
    assert [age_text(n) for n in (-5, 59, 120, 7200, 2 * DAY)] == ["0s", "59s", "2m", "2h", "2d"]


def test_malformed_receipts_stop_all(place: Place) -> None:
    place.store.put("llm/releases/demo-1.0.3/receipts/99991231T000000Z-00000000.json", b"[]")
    with pytest.raises(BundleError):
        place.plan(keep=2)


def test_a_place_that_is_called_like_our_folders_does_not_mix_up_the_order() -> None:
    objects = [
        HeldObject(f"complete/llm/releases/demo-1.0.1/{name}", 1, 0)
        for name in ("MANIFEST.json", "SHA256SUMS.0123abcd.sig", "complete/own.json")
    ]
    inventory = take_inventory(S3Prefix("models", "complete/llm"), objects)
    facts = Facts(inventory=inventory, manifests={}, key8s=["0123abcd"], now=NOW)
    plan = make_prune_plan(facts, Rules())
    batches = [[key.rpartition("demo-1.0.1/")[2] for key in batch] for batch in plan.batches()]
    assert batches == [["complete/own.json"], [], ["MANIFEST.json"], ["SHA256SUMS.0123abcd.sig"]]
