"""Which release may follow which, and when: by the clock, and by what a destination remembers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from bundler.cli.opening import utc_now
from bundler.digest import Digest
from bundler.errors import ContentError, DeniedError, MalformedError, StaleError, ToolFailedError
from bundler.extract import extract
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.manifest_codec import encode_manifest
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.memory import Memory, Remembered, read_pointer
from bundler.publish.plan import State
from bundler.publish.pointer import (
    NOTHING_ALLOWED,
    Allowances,
    Deployed,
    Mark,
    Pointer,
    check_staleness,
    check_trust_version,
    decode_pointer,
    encode_pointer,
)
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease, open_release
from bundler.sign import sign_release
from bundler.signing.tuf_roots import read_root, write_root
from bundler.staleness import check_created, check_expiry
from bundler.target import KubernetesTarget
from bundler.tools.kubectl import Kubectl
from bundler.trust import Trust
from bundler.verify import verify_path
from tests.fake_cluster import FakeCluster
from tests.memory_store import MemoryStore
from tests.unit.small_files import SOME, new_key, small_manifest, write_small_files

KEY = new_key()
NOW = "2026-11-20T00:00:00Z"  # the small release is of 2026-11-01, and has sequence 3
RELEASE = small_manifest().release
IN_CLUSTER = ClusterMemory(KubernetesTarget())
CONFIG_MAP = "configmap poolside-models/bundle-current-inference"


def release(directory: Path, *, sequence: int = 3) -> TrustedRelease:
    """Make a release of a sequence, signed and judged."""
    small = small_manifest()
    manifest = replace(small, release=replace(small.release, sequence=sequence))
    made = signed(directory / f"release-{sequence}", manifest)
    return open_release(made, Trust.of_keys([KEY.public]))


def signed(directory: Path, manifest: Manifest) -> Path:
    content = encode_manifest(manifest)
    sums = {name: digest for name, (_, digest) in manifest.archives.items()}
    write_small_files(directory, content, sums | {MANIFEST_NAME: Digest.of(content)})
    sign_release(directory, KEY)
    return directory


def pointer(sequence: int, highest: int) -> Pointer:
    deployed = Deployed(release=f"demo-{sequence}", manifest=SOME, sequence=sequence)
    return Pointer(deployed=deployed, highest=highest)


SEVEN = pointer(7, 7)


# Time.


@pytest.mark.parametrize("now", ["2026-10-31T00:00:00Z", "2026-11-01T00:00:00Z", NOW])
def test_a_release_of_today_is_judged_by_a_clock_that_is_up_to_a_day_behind(now: str) -> None:
    check_created(small_manifest(), now=now)


def test_a_release_from_the_future_is_refused_and_nothing_allows_it() -> None:
    everything = Allowances(rollback=RELEASE.sequence, expired_reason="why")
    for now in ("2026-10-30T23:59:59Z", "1980-01-01T00:00:00Z"):
        with pytest.raises(StaleError, match="created before now") as caught:
            check_staleness(small_manifest(), Mark(number=9), everything, now=now)
        assert "clock of this machine is wrong" in str(caught.value.hint)


def test_a_release_is_refused_from_the_very_second_that_it_expires() -> None:
    manifest = small_manifest(expires=NOW)
    check_expiry(manifest, now="2026-11-19T23:59:59Z")
    check_expiry(small_manifest(), now="9999-01-01T00:00:00Z")
    for now in (NOW, "2028-01-01T00:00:00Z"):
        with pytest.raises(StaleError, match="expired at 2026-11-20T00:00:00Z"):
            check_expiry(manifest, now=now)


@pytest.mark.parametrize("allow_expired", [False, True])
def test_verify_and_extract_refuse_a_release_from_the_future(
    tmp_path: Path, allow_expired: bool
) -> None:
    made = signed(tmp_path / "r", small_manifest(expires="2027-01-01T00:00:00Z"))
    now, trust = "2026-01-01T00:00:00Z", Trust.of_keys([KEY.public])
    with pytest.raises(StaleError, match="created before now"):
        verify_path(made, trust, now=now, allow_expired=allow_expired)
    with pytest.raises(StaleError, match="created before now"):
        extract(
            made,
            tmp_path / "out",
            trust,
            now=now,
            only="tiny_1",
            allow_expired=allow_expired,
        )
    assert not (tmp_path / "out").exists()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bundler", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("hours", "refused"), [(25, True), (23, False)])
def test_the_command_judges_by_the_clock_of_its_machine(
    tmp_path: Path, hours: int, refused: bool
) -> None:
    created = datetime.now(UTC) + timedelta(hours=hours)
    small = small_manifest()
    facts = replace(small.release, created=f"{created:%Y-%m-%dT%H:%M:%SZ}")
    made = signed(tmp_path / "r", replace(small, release=facts))
    (tmp_path / "release.pub").write_bytes(KEY.public.pem)
    done = run("verify", made, "--key", tmp_path / "release.pub", "--allow-expired")
    # Nothing else of the release is there, so it is refused in any case.
    assert done.returncode == (StaleError if refused else ContentError).exit_status
    assert ("created before now" in done.stderr) == refused


@pytest.mark.parametrize(
    ("created", "expires"),
    [("2199-01-01T00:00:00Z", None), ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")],
    ids=["from the future", "expired"],
)
def test_time_is_judged_before_a_destination_is_asked(
    tmp_path: Path, created: str, expires: str | None
) -> None:
    small = small_manifest()
    facts = replace(small.release, created=created, expires=expires)
    made = signed(tmp_path / "r", replace(small, release=facts))
    (tmp_path / "release.pub").write_bytes(KEY.public.pem)
    target = {
        "formatVersion": 1,
        "registry": {"host": "127.0.0.1:1", "plainHttp": True},
        "s3": {"bucket": "unused", "endpoint": "http://127.0.0.1:1"},
        "kubernetes": {"namespace": "unused"},
    }
    (tmp_path / "target.yaml").write_text(json.dumps(target))
    key = ("--key", tmp_path / "release.pub")
    done = run("plan", made, "--target", tmp_path / "target.yaml", *key)
    assert done.returncode == StaleError.exit_status, done.stderr


def test_one_reading_of_the_clock_decides_all_that_a_command_judges() -> None:
    with click.Context(click.Command("first")) as outer:
        first = utc_now()
        time.sleep(1.1)
        with click.Context(click.Command("inner"), parent=outer):
            assert utc_now() == first
    with click.Context(click.Command("second")):
        assert utc_now() > first


@pytest.mark.parametrize("reason", ["", "two\nlines", "\x1b[2J", "\u202e", "a" * 1001])
def test_a_reason_is_one_line_that_a_receipt_can_hold(tmp_path: Path, reason: str) -> None:
    allow = ["--allow-expired", "--reason", reason]
    done = run("plan", tmp_path, "--target", __file__, *allow)
    assert done.returncode == 2
    assert "reason" in done.stderr


def test_an_expired_release_is_deployed_for_a_reason_only() -> None:
    manifest = small_manifest(expires=NOW)
    for reason in (None, ""):
        with pytest.raises(StaleError, match="expired"):
            check_staleness(manifest, Mark(number=0), Allowances(expired_reason=reason), now=NOW)
    allowed = check_staleness(manifest, Mark(number=0), Allowances(expired_reason="why"), now=NOW)
    assert allowed == (f"expired at {NOW}: why",)


# Sequence.


@pytest.mark.parametrize("highest", [0, 2, 3])
def test_a_release_as_high_as_the_highest_may_follow(highest: int) -> None:
    assert check_staleness(small_manifest(), Mark(number=highest), NOTHING_ALLOWED, now=NOW) == ()


def test_going_back_needs_the_very_number() -> None:
    refused = "sequence 3, expected 4 or higher, which was deployed here"
    with pytest.raises(StaleError, match=f"{refused}$") as caught:
        check_staleness(small_manifest(), Mark(number=4), NOTHING_ALLOWED, now=NOW)
    assert str(caught.value.hint).endswith("--allow-rollback 3")
    for other in (2, 4):
        with pytest.raises(StaleError, match=f"{refused}; --allow-rollback {other} allows another"):
            check_staleness(small_manifest(), Mark(number=4), Allowances(rollback=other), now=NOW)
    allowed = check_staleness(small_manifest(), Mark(number=4), Allowances(rollback=3), now=NOW)
    assert allowed == ("rollback to sequence 3 below 4",)


def test_one_allowance_is_none_for_the_other_reason() -> None:
    manifest = small_manifest(expires=NOW)
    with pytest.raises(StaleError, match="sequence 3, expected 4"):
        check_staleness(manifest, Mark(number=4), Allowances(expired_reason="why"), now=NOW)
    with pytest.raises(StaleError, match="expired"):
        check_staleness(manifest, Mark(number=4), Allowances(rollback=3), now=NOW)
    both = Allowances(rollback=3, expired_reason="why")
    assert len(check_staleness(manifest, Mark(number=4), both, now=NOW)) == 2


# What one place remembers.


@pytest.mark.parametrize("found", [pointer(2, 5), pointer(5, 5), Pointer(deployed=None, highest=5)])
def test_what_is_remembered_reads_back_from_both_places(found: Pointer) -> None:
    store, cluster = MemoryStore(), FakeCluster()
    store.replace("k", encode_pointer(found))
    assert read_pointer(store, "k") == found
    IN_CLUSTER.write(cluster, found)
    assert IN_CLUSTER.read(cluster.get) == found


def test_where_nothing_is_nothing_is_remembered() -> None:
    assert read_pointer(MemoryStore(), "k") is None
    assert IN_CLUSTER.read(FakeCluster().get) is None


GOOD = json.loads(encode_pointer(pointer(2, 5)))
HOSTILE = {
    "empty": b"",
    "no fields": b"{}",
    "null": b"null",
    "a list": b"[]",
    "no JSON": b"{",
    "not UTF-8": b'{"\xff": 1}',
    "cut short": encode_pointer(pointer(2, 5))[:-3],
    "deep": b"[" * 100_000,
    "large": b'{"formatVersion": 1, "highest": 1}' + b" " * (65 << 10),
    "a key twice": b'{"formatVersion": 1, "highest": 1, "highest": 9}',
    "a field more": json.dumps({**GOOD, "lowest": 1}).encode(),
    "another version": json.dumps({**GOOD, "formatVersion": 2}).encode(),
    "no version": json.dumps({**GOOD, "formatVersion": None}).encode(),
    "no highest": json.dumps({**GOOD, "highest": None}).encode(),
    "highest 0": json.dumps({**GOOD, "highest": 0}).encode(),
    "highest as text": json.dumps({**GOOD, "highest": "5"}).encode(),
    "highest below its own": json.dumps({**GOOD, "highest": 1}).encode(),
    "beyond all numbers": b'{"formatVersion": 1, "highest": 1' + b"0" * 5000 + b"}",
    "no sequence": json.dumps({**GOOD, "sequence": None}).encode(),
    "no digest": json.dumps({**GOOD, "manifestSha256": None}).encode(),
    "another digest": json.dumps({**GOOD, "manifestSha256": "sha256:" + "0" * 64}).encode(),
    "a path as name": json.dumps({**GOOD, "release": "../../other"}).encode(),
    "a name that moves the cursor": json.dumps({**GOOD, "release": "a\x1b[2J"}).encode(),
    "a digest of no release": b'{"formatVersion": 1, "highest": 1, "sequence": 1}',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_we_never_wrote_is_an_error_and_never_nothing(content: bytes) -> None:
    store = MemoryStore()
    store.replace("k", content)
    with pytest.raises(MalformedError) as caught:
        read_pointer(store, "k")
    assert str(caught.value).isprintable()
    assert "somebody else wrote k" in str(caught.value.hint)
    with pytest.raises(MalformedError, match=CONFIG_MAP) as caught:
        IN_CLUSTER.read(lambda *_: {"data": {"current.json": content.decode("latin-1")}})
    assert str(caught.value).isprintable()


TEXT = encode_pointer(pointer(2, 5)).decode()


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": []},
        {"data": TEXT},
        {"data": {"current": TEXT}},
        {"data": {"current.json": None}},
        {"data": {"current.json": 5}},
        {"data": {"current.json": "\ud800"}},
        {"data": {"current.json": TEXT, "more": ""}},
        {"data": {"current.json": TEXT}, "binaryData": {"current.json": ""}},
        {"binaryData": {"current.json": ""}},
    ],
)
def test_a_config_map_that_we_never_made_is_an_error(found: Mapping[str, object]) -> None:
    with pytest.raises(MalformedError, match=CONFIG_MAP):
        IN_CLUSTER.read(lambda *_: found)


class Forbids:
    """Answers like kubectl of a cluster that does not let us."""

    def __init__(self, verb: str) -> None:
        self.verb = verb

    def __call__(self, argv: Sequence[str], **_: object) -> str:
        said = (
            'Error from server (Forbidden): configmaps "bundle-current-inference" is forbidden: '
            f'User "jane" cannot {self.verb} resource "configmaps" in API group "" in the '
            'namespace "n"'
        )
        raise ToolFailedError(argv, 1, said)


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_a_missing_right_is_named_with_the_namespace(verb: str) -> None:
    cluster: Any = Kubectl(namespace="n", run=Forbids(verb))
    memory = ClusterMemory(KubernetesTarget(namespace="n"))
    acts: dict[str, Callable[[], object]] = {
        "get": lambda: memory.read(cluster.get),
        "patch": lambda: memory.write(cluster, SEVEN),
    }
    with pytest.raises(DeniedError) as caught:
        acts[verb]()
    for part in ("configmap n/bundle-current-inference", f'cannot {verb} resource "configmaps"'):
        assert part in str(caught.value)
    assert "get, create and patch configmaps in namespace n" in str(caught.value.hint)


# What the two places remember together.


class Place:
    """A bucket and a cluster that remember something, or nothing."""

    def __init__(self, bucket: Pointer | None, cluster: Pointer | None) -> None:
        self.memory = Memory(
            store=MemoryStore(),
            place=S3Prefix("models", "k"),
            cluster=FakeCluster(),
            in_cluster=IN_CLUSTER,
        )
        if bucket is not None:
            self.memory.store.replace("k", encode_pointer(bucket))
        if cluster is not None:
            IN_CLUSTER.write(self.memory.cluster, cluster)

    def remembered(self) -> tuple[Pointer | None, Pointer | None]:
        both = self.memory.read()
        return both.bucket, both.cluster


BOTH = [
    (pointer(5, 7), None),
    (None, pointer(5, 7)),
    (pointer(1, 1), pointer(5, 7)),
    (pointer(5, 7), pointer(1, 1)),
    (Pointer(deployed=None, highest=7), pointer(1, 1)),
    (pointer(7, 7), pointer(7, 7)),
]


@pytest.mark.parametrize(("bucket", "cluster"), BOTH)
def test_the_higher_of_the_two_counts(bucket: Pointer | None, cluster: Pointer | None) -> None:
    found = Place(bucket, cluster).memory.read()
    assert found.highest == 7
    assert found.disagrees == (bucket != cluster)
    with pytest.raises(StaleError, match="expected 7 or higher"):
        check_staleness(small_manifest(), Mark(number=found.highest), NOTHING_ALLOWED, now=NOW)


@pytest.mark.parametrize(("bucket", "cluster"), BOTH)
def test_neither_place_ever_falls_and_both_agree_in_the_end(
    bucket: Pointer | None, cluster: Pointer | None, tmp_path: Path
) -> None:
    place = Place(bucket, cluster)
    place.memory.begin(release(tmp_path), judged=7)  # a rollback that was allowed
    for before, after in zip((bucket, cluster), place.remembered(), strict=True):
        assert after is not None
        assert after.highest == 7
        assert after.deployed == (before.deployed if before else None)
    place.memory.point(release(tmp_path), judged=7)
    digest = Digest.of(release(tmp_path).manifest_bytes)
    deployed = Deployed(release=RELEASE.directory, manifest=digest, sequence=3)
    assert place.remembered() == (Pointer(deployed=deployed, highest=7),) * 2
    place.memory.begin(release(tmp_path, sequence=9), judged=7)
    assert place.remembered() == (Pointer(deployed=deployed, highest=9),) * 2


@pytest.mark.parametrize("newer", [(pointer(8, 8), None), (None, pointer(8, 8))])
def test_a_newer_release_in_either_place_since_the_plan_stops_it(
    newer: tuple[Pointer | None, Pointer | None], tmp_path: Path
) -> None:
    place = Place(*newer)
    with pytest.raises(StaleError, match="sequence 3, and 8 was deployed here since the plan"):
        place.memory.begin(release(tmp_path), judged=7)
    with pytest.raises(StaleError, match="sequence 3, and 8 was deployed here since the plan"):
        place.memory.point(release(tmp_path), judged=7)
    assert place.remembered() == newer


def test_a_place_that_remembers_otherwise_is_work_to_do(tmp_path: Path) -> None:
    after = Remembered().after(release(tmp_path))
    assert after.highest == 3
    assert Remembered(bucket=pointer(5, 7)).after(release(tmp_path)).highest == 7
    same = Remembered(bucket=after, cluster=after).plan(after, "demo")
    assert same.state is State.PRESENT
    for bucket, cluster in ((after, None), (None, after), (after, pointer(5, 7)), (None, None)):
        step = Remembered(bucket=bucket, cluster=cluster).plan(after, "demo")
        assert step.state is State.TO_DO
    text = Remembered(bucket=after, cluster=pointer(5, 7)).text
    assert text == ("the bucket remembers demo-1.0.0 (highest 3), the cluster demo-5 (highest 7)")


def test_a_raised_trust_version_is_seen_where_the_two_disagree() -> None:
    remembered = Remembered(
        bucket=Pointer(deployed=None, highest=3, trust_version=9),
        cluster=Pointer(deployed=None, highest=3),
    )
    assert "(highest 3, trust file 9), the cluster no release (highest 3)" in remembered.text


def test_a_trust_file_older_than_one_that_judged_here_is_refused(tmp_path: Path) -> None:
    def judged_by(version: int) -> TrustedRelease:
        given = release(tmp_path)
        content = write_root(version, given.trust.signers, "2030-01-01T00:00:00Z")
        root = read_root(content, name="root.json")
        return replace(given, trust=replace(given.trust, given=root))

    place = Place(None, None)
    place.memory.begin(judged_by(2), judged=0)
    place.memory.point(judged_by(4), judged=3)
    for remembered in place.remembered():
        assert remembered is not None
        assert remembered.trust_version == 4
        assert decode_pointer(encode_pointer(remembered), name="k") == remembered
    IN_CLUSTER.write(place.memory.cluster, pointer(3, 3))  # one of the two forgot
    for act in (place.memory.begin, place.memory.point):
        with pytest.raises(StaleError, match=r"expected version 4 or higher, .*, got version 3"):
            act(judged_by(3), judged=3)
        with pytest.raises(StaleError, match="got none, but keys"):
            act(release(tmp_path), judged=3)
    assert place.memory.read().trust_version == 4
    check_trust_version(4, Mark(number=4))


def test_who_says_that_something_is_too_old_is_named_and_how_to_go_on(tmp_path: Path) -> None:
    """Somebody may have put any number there: a person must know where to look."""
    place, bucket = Place(None, None), "s3://models/k"
    place.memory.store.replace("k", encode_pointer(Pointer(deployed=None, highest=3)))
    raised = Pointer(deployed=None, highest=9, trust_version=7)
    IN_CLUSTER.write(place.memory.cluster, raised)
    given = release(tmp_path)
    both = f"it is remembered in {bucket} and in {CONFIG_MAP}, and TRUST.md says what then"
    with pytest.raises(StaleError) as caught:
        place.memory.begin(given, judged=9)
    assert f"which judged what was deployed here, as {CONFIG_MAP} remembers, got" in str(
        caught.value
    )
    assert f"if version 7 was never here, somebody wrote that number: find out who; {both}" in (
        caught.value.hint or ""
    )
    found = place.memory.read()
    with pytest.raises(StaleError) as caught:
        check_staleness(given.manifest, found.highest_mark, NOTHING_ALLOWED, now=NOW)
    assert str(caught.value).endswith(f"which was deployed here, as {CONFIG_MAP} remembers")
    assert (caught.value.hint or "").startswith("to go back on purpose: --allow-rollback 3; if ")
    assert both in (caught.value.hint or "")
    assert "delete" not in (caught.value.hint or "")  # in a hurry, that is what people copy
    place.memory.store.replace("k", encode_pointer(raised))
    with pytest.raises(StaleError, match=f"as {bucket} and {CONFIG_MAP} remember, got none"):
        place.memory.point(given, judged=9)
