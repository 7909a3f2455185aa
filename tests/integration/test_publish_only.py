"""Parts of a release, one run after the other: ``publish --only``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler.archive.bundle_files import open_bundle_files
from bundler.cli import run
from bundler.errors import CheckError, ContentError, MalformedError, StaleError
from bundler.events import Event, Noted, Started
from bundler.publish.carry_out import publish
from bundler.publish.destination import Destination
from bundler.publish.only import Only
from bundler.publish.plan import Kind, Plan, State
from bundler.publish.planning import make_plan
from bundler.publish.pointer import NOTHING_ALLOWED
from bundler.publish.push import push_images
from bundler.publish.secrets import read_secrets
from bundler.receipt import Receipt, decode_receipt
from bundler.reference import ImageTag
from bundler.release import TrustedRelease, open_release
from bundler.split import split_release
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_registry
from tests.integration import test_publish as whole
from tests.integration.test_publish import NOW, Site
from tests.publishable import SMALL, make_publishable
from tests.rehearsal.faulty_proxy import faulty_proxy
from tests.rehearsal.registry import Registry
from tests.rehearsal.s3 import S3

site, small = whole.site, whole.small
# Whoever asks this anything fails.
NOBODY: Any = object()
NAME = "demo-2026.11.1"
# What the chart comes to name with the target of these tests: no documentation is asked for.
NAMED = {"atlas", "model-downloader"}


def plan_only(
    site: Site, release: TrustedRelease, *words: str, destination: Destination | None = None
) -> Plan:
    return make_plan(
        release,
        site.target,
        destination or site.destination,
        secrets=read_secrets(site.target) if Only(words).chart else (),
        now=NOW,
        allowances=NOTHING_ALLOWED,
        only=Only(words),
        emit=site.events.append,
    )


def publish_only(
    site: Site, release: TrustedRelease, *words: str, destination: Destination | None = None
) -> Receipt | None:
    plan = plan_only(site, release, *words, destination=destination)
    return publish(
        plan,
        release,
        site.target,
        destination or site.destination,
        secrets=read_secrets(site.target) if Only(words).chart else (),
        values_path=site.values_path,
        receipts=site.directory,
        now=NOW,
        verify_first=True,
        scratch_parent=site.directory,
        emit=site.events.append,
    )


def without(release: TrustedRelease, place: Path, *archives: str) -> TrustedRelease:
    """Copy a release, and leave some archives of it out."""
    shutil.copytree(release.directory, place)
    for name in archives:
        (place / name).unlink()
    return open_release(place, release.trust)


def bucket_alone(site: Site) -> Destination:
    return Destination(store=site.store, registry=NOBODY, cluster=NOBODY)


def registry_alone(site: Site) -> Destination:
    return Destination(store=NOBODY, registry=site.registry, cluster=NOBODY)


def twin(site: Site) -> Site:
    """Give another site in the same bucket and registry, with a cluster of its own."""
    s3, host = site.target.s3, f"{site.target.registry.host}/twin"
    directory = site.directory.with_name("twin")
    directory.mkdir()
    target = replace(
        site.target,
        registry=replace(site.target.registry, host=host),
        s3=replace(s3, place=replace(s3.place, prefix="twin")),
    )
    return Site(
        target=target,
        store=site.store,
        registry=open_registry(host, logins=GivenLogin(), plain_http=True),
        directory=directory,
    )


def contents(site: Site) -> dict[str, bytes]:
    """Give all that a run leaves but for its receipts, with the names of the site left out."""
    place, host = site.target.s3.place, site.target.registry.host
    found = {
        key.removeprefix(f"{place.prefix}/"): site.store.get(key, limit=item.size)
        for key, item in site.objects().items()
        if key.startswith(f"{place.prefix}/") and "/receipts/" not in key
    }
    found |= {name: str(site.digest(ImageTag(name, "1.0.0"))).encode() for name in whole.IMAGES}
    found["values"] = site.values_path.read_bytes()
    found["upgrades"] = str(site.cluster.upgrades).encode()
    names = (host.encode(), b"HOST"), (f"{place.bucket}/{place.prefix}".encode(), b"PLACE")
    for key, content in found.items():
        for name, word in names:
            content = content.replace(name, word)
        found[key] = content
    return found


def states(plan: Plan, kind: Kind) -> set[State]:
    return {step.state for step in plan.steps if step.kind is kind}


def sent(events: Sequence[Event]) -> set[str]:
    return {
        f"{event.verb} {event.item}"
        for event in events
        if isinstance(event, Started) and event.verb in {"upload", "push"}
    }


def keys(site: Site, part: str) -> set[str]:
    return {key.partition(part)[2] for key in site.objects() if part in key}


def test_checkpoints_alone_ask_nothing_of_registry_and_cluster_and_need_no_bundle(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    early = without(small, tmp_path / "early", small.manifest.bundle.archive)
    receipt = publish_only(site, early, "checkpoints", destination=bucket_alone(site))
    assert receipt is not None
    assert receipt.chart is None
    assert receipt.images == ()
    [written] = site.directory.iterdir()
    assert decode_receipt(written.read_bytes(), name="receipt") == receipt
    files = {item.key for item in receipt.objects}
    assert files | {f"llm/releases/{NAME}/receipts/{receipt.name}.json"} == set(site.objects())
    assert keys(site, "/complete/") == {"laguna_1.json", "point_1.json"}
    assert not keys(site, "/current.json")
    site.events.clear()
    assert site.publish(small) is not None
    assert not [each for each in sent(site.events) if each.startswith("upload")]
    assert not site.plan(small).pending


def test_images_alone_ask_nothing_of_bucket_and_cluster_and_need_no_checkpoint(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    early = without(small, tmp_path / "early", "point_1.tar", "laguna_1.tar")
    receipt = publish_only(site, early, "images", destination=registry_alone(site))
    assert receipt is not None
    assert {image.tag for image in receipt.images} == {it.tag for it in small.manifest.images}
    assert receipt.objects == ()
    assert receipt.store_checks_content is None
    for image in small.manifest.images:
        assert site.digest(image.tag) == image.digest
    assert not site.objects()
    assert [path.suffix for path in site.directory.iterdir()] == [".json"]
    assert publish_only(site, early, "images", destination=registry_alone(site)) is None
    site.events.clear()
    assert site.publish(small) is not None
    assert not [each for each in sent(site.events) if each.startswith("push")]
    assert not site.plan(small).pending


@pytest.mark.parametrize("engine", ["direct", "skopeo"])
def test_on_the_command_line_an_engine_is_chosen_and_reads_back(
    site: Site,
    small: TrustedRelease,
    registry: Registry,
    tmp_path: Path,
    need: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    engine: str,
) -> None:
    need("skopeo")
    with faulty_proxy(registry) as proxy:
        target = {
            "formatVersion": 1,
            "registry": {"host": f"{proxy.address}/{tmp_path.name.lower()}", "plainHttp": True},
            "s3": {"bucket": "none", "region": "none", "endpoint": "http://127.0.0.1:9"},
            "kubernetes": {"kubeconfig": "none.yaml"},
        }
        (tmp_path / "target.yaml").write_text(yaml.safe_dump(target))
        (tmp_path / "key.pub").write_bytes(small.signers[0].pem)
        arguments = [str(small.directory), "--target", str(tmp_path / "target.yaml")]
        arguments += ["--key", str(tmp_path / "key.pub"), "--only", "images", "--yes"]
        done = run(["publish", *arguments, "--image-engine", engine, "--verify", "read-back"])
        once = list(proxy.calls)
        assert "images published; no chart yet" in capsys.readouterr().out
        again = run(["publish", *arguments, "--verify", "read-back"])
    assert (done, again) == (0, 0)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{NAME}: all is there; its images were read back, and are as signed"
    receipts = {path.name for path in tmp_path.glob("*.receipt.json")}
    assert Path(said[1].removeprefix("receipt  ")).name in receipts
    assert len(receipts) == 2
    proxy.calls = once
    taken = [call for call in proxy.calls if call.took_blob]
    by_skopeo = {call.headers["user-agent"].startswith("skopeo") for call in taken}
    assert by_skopeo == {engine == "skopeo"}
    read = {call.digest for call in proxy.calls if call.operation == "GetBlob"}
    assert {call.digest for call in taken} <= read


def test_one_part_after_the_other_comes_to_the_same_as_all_at_once(
    site: Site, small: TrustedRelease
) -> None:
    publish_only(site, small, "point", destination=bucket_alone(site))
    assert keys(site, "/complete/") == {"point_1.json"}
    plan = site.plan(small)
    pending = {step.group for step in plan.pending if step.kind is Kind.CHECKPOINT_FILE}
    assert [group.split("/")[-2] for group in pending] == ["laguna"]
    publish_only(site, small, "images")
    publish_only(site, small, "laguna-two")
    assert keys(site, "/complete/") == {"laguna_1.json", "point_1.json"}
    assert site.cluster.upgrades == 0
    assert not keys(site, "/current.json")
    receipt = publish_only(site, small, "chart")
    assert receipt is not None
    assert receipt.chart is not None
    assert {image.tag.name for image in receipt.images} == NAMED
    assert site.cluster.upgrades == 1
    pointer = json.loads(site.store.get("llm/releases/current.json", limit=4096))
    assert (pointer["release"], pointer["highest"]) == (NAME, 1)
    # In the bucket no receipt names the images that the chart does not.
    assert [step.kind for step in site.plan(small).pending] == [Kind.RECEIPT]
    site.publish(small)
    assert not site.plan(small).pending
    at_once = twin(site)
    at_once.publish(small)
    assert contents(site) == contents(at_once)


def test_what_was_not_asked_for_is_listed_and_not_looked_at(
    site: Site, small: TrustedRelease
) -> None:
    plan = plan_only(site, small, "point", destination=bucket_alone(site))
    looked_at = {Kind.CHECKPOINT_FILE, Kind.RELEASE_FILE, Kind.MARKER}
    for kind in set(Kind) - looked_at - {Kind.REPOSITORY, Kind.RECEIPT}:
        assert states(plan, kind) == {State.NOT_ASKED}, kind
    assert states(plan, Kind.CHECKPOINT_FILE) == {State.NOT_ASKED, State.TO_DO}
    assert states(plan, Kind.MARKER) == {State.NOT_ASKED, State.TO_DO}
    assert {step.name for step in plan.steps} == {step.name for step in site.plan(small).steps}
    facts: Any = plan.to_dict()
    assert facts["only"] == ["point"]
    assert facts["notAsked"] == len(plan.in_state(State.NOT_ASKED))


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), ["image ", "checkpoint s3://"]),
        (("images",), ["checkpoint s3://"]),
        (("checkpoints",), ["image "]),
        (("images", "point"), ["2 files of checkpoint s3://"]),
    ],
)
def test_the_chart_alone_is_installed_only_where_all_that_it_needs_is_there(
    site: Site, small: TrustedRelease, there: tuple[str, ...], missing: list[str]
) -> None:
    for words in there:
        publish_only(site, small, words)
    before = site.state()
    with pytest.raises(CheckError, match="needs what is not there yet") as caught:
        plan_only(site, small, "chart")
    lines = str(caught.value).splitlines()[1:]
    for text in missing:
        assert [line for line in lines if text in line], lines
    assert bool([line for line in lines if "image" in line]) == ("image " in missing)
    assert site.state() == before
    publish_only(site, small, "chart", "images", "checkpoints")
    assert not site.plan(small).pending


def test_the_chart_alone_is_about_the_images_that_it_names(site: Site, tmp_path: Path) -> None:
    release = make_publishable(
        tmp_path / "charts", replace(SMALL, more_images=("operator",), signed=True)
    )
    used = [image for image in release.manifest.running if image.tag.name in NAMED]
    others = {str(image.tag) for image in release.manifest.images if image not in used}
    assert "operator:1.0.0" in others
    assert [name for name in others if name.startswith("atlas:sha256-")]
    with pytest.raises(CheckError, match="needs what is not there yet") as caught:
        plan_only(site, release, "chart")
    assert not [name for name in others if name in str(caught.value)]
    publish_only(site, release, "checkpoints")
    with open_bundle_files(release.directory, release.manifest.bundle) as files:
        push_images(site.registry, files, used)
    plan = plan_only(site, release, "chart")
    steps = {step.name: step.state for step in plan.steps if step.kind is Kind.IMAGE}
    assert {name for name, state in steps.items() if state is State.NOT_ASKED} == others
    assert {name for name, state in steps.items() if state is State.PRESENT} == {
        str(image.tag) for image in used
    }
    receipt = publish_only(site, release, "chart")
    assert receipt is not None
    assert {image.tag for image in receipt.images} == {image.tag for image in used}
    assert site.cluster.upgrades == 1
    pending = {step.name for step in site.plan(release).pending if step.kind is Kind.IMAGE}
    assert pending == others


@pytest.mark.parametrize("words", [(), ("checkpoints",), ("point",), ("chart",)])
def test_a_checkpoint_that_is_there_needs_no_archive_here(
    site: Site, small: TrustedRelease, tmp_path: Path, words: tuple[str, ...]
) -> None:
    publish_only(site, small, "images", "checkpoints")
    late = without(small, tmp_path / "late", "point_1.tar", "laguna_1.tar")
    plan = plan_only(site, late, *words)
    assert State.TO_DO not in states(plan, Kind.CHECKPOINT_FILE)
    publish_only(site, late, *words)
    assert bool(site.cluster.upgrades) == (not words or words == ("chart",))


def cut_short(archive: Path) -> None:
    os.truncate(archive, 1000)


def damage_header(archive: Path) -> None:
    with archive.open("r+b") as stream:
        stream.write(b"no header")


def lose_a_volume(archive: Path) -> None:
    split_release(archive.parent, volume_bytes=4096, remove_original=True)
    max(archive.parent.glob(f"{archive.name}.*")).unlink()


@pytest.mark.parametrize("harm", [Path.unlink, cut_short, damage_header, lose_a_volume])
def test_an_archive_is_judged_only_where_something_is_to_be_sent_from_it(
    site: Site, small: TrustedRelease, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    late = without(small, tmp_path / "late")
    harm(tmp_path / "late" / "point_1.tar")
    before = site.state()
    for words in ((), ("checkpoints",), ("point",)):
        with pytest.raises(ContentError, match=r"point_1\.tar"):
            plan_only(site, late, *words)
    assert site.state() == before
    publish_only(site, small, "images", "checkpoints")
    site.events.clear()
    assert publish_only(site, late, "checkpoints") is None
    told = [event.text for event in site.events if isinstance(event, Noted)]
    assert [text for text in told if "point_1.tar" in text] == [
        "nothing is to be sent from laguna_1.tar, point_1.tar: not needed, not looked at"
    ]
    publish_only(site, late)
    assert not site.plan(late).pending
    assert not site.plan(small).pending


def test_a_model_that_is_called_like_a_part_can_be_asked_for(site: Site, tmp_path: Path) -> None:
    recipe = replace(SMALL, models={"images": "point_1", "laguna": "laguna_1"})
    release = make_publishable(tmp_path / "named", recipe)
    publish_only(site, release, "model:images", "model:laguna", destination=bucket_alone(site))
    assert keys(site, "/complete/") == {"laguna_1.json", "point_1.json"}
    with pytest.raises(MalformedError) as caught:
        plan_only(site, release, "model:point")
    assert str(caught.value.hint).endswith("model:images, laguna")


def test_an_absent_archive_is_missed_only_where_it_was_asked_for(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    one = without(small, tmp_path / "one", "laguna_1.tar", small.manifest.bundle.archive)
    with pytest.raises(ContentError, match=r"laguna_1\.tar: absent"):
        plan_only(site, one, "checkpoints")
    assert publish_only(site, one, "point") is not None


def test_nothing_is_marked_complete_that_is_not(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    broken = whole.damaged(small, tmp_path, "point_1", "model.safetensors", 100)
    plan = plan_only(site, broken, "checkpoints")
    with pytest.raises(ContentError, match=r"model\.safetensors"):
        publish(
            plan,
            broken,
            site.target,
            bucket_alone(site),
            secrets=(),
            values_path=site.values_path,
            receipts=site.directory,
            now=NOW,
        )
    assert not keys(site, "/complete/")
    assert not list(site.directory.iterdir())
    publish_only(site, small, "checkpoints")
    assert keys(site, "/complete/") == {"laguna_1.json", "point_1.json"}


def test_an_older_release_is_refused_wherever_the_bucket_is_asked(
    site: Site, small: TrustedRelease
) -> None:
    newer = make_publishable(site.directory.parent / "newer", replace(SMALL, sequence=2))
    site.publish(newer)
    for words in (("checkpoints",), ("point",), ("chart",), ("images", "point")):
        with pytest.raises(StaleError, match="sequence 1, expected 2"):
            plan_only(site, small, *words)
    # Images alone run nowhere; whatever installs a chart that names them judges the sequence.
    plan_only(site, small, "images", destination=registry_alone(site))


@pytest.mark.parametrize("word", ["image", "point_1", "Point", ""])
def test_a_word_that_is_no_part_and_no_model_is_refused(
    site: Site, small: TrustedRelease, word: str
) -> None:
    with pytest.raises(MalformedError, match="expected images, checkpoints, chart or") as caught:
        plan_only(site, small, word)
    assert "laguna, laguna-two, point" in str(caught.value.hint)


def test_uploading_early_works_before_there_is_a_cluster_or_a_login(
    site: Site,
    small: TrustedRelease,
    s3: S3,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on the command line: the files that name cluster, login and keys may not be there yet."""
    target = {
        "formatVersion": 1,
        "registry": {"host": "registry.invalid", "ca": "none.pem", "authFile": "none.json"},
        "s3": {
            "bucket": site.target.s3.place.bucket,
            "prefix": "llm",
            "region": s3.region,
            "endpoint": s3.url,
            "credentials": {"secretName": "aws", "fromFile": "none.env"},
        },
        "kubernetes": {"kubeconfig": "none.yaml"},
        "apiKey": {"fromFile": "none.txt"},
    }
    (tmp_path / "target.yaml").write_text(yaml.safe_dump(target))
    (tmp_path / "key.pub").write_bytes(small.signers[0].pem)
    arguments = [str(small.directory), "--target", str(tmp_path / "target.yaml")]
    arguments += ["--key", str(tmp_path / "key.pub"), "--only", "point", "--only", "laguna"]
    assert run(["publish", *arguments, "--yes"]) == 0
    told = capsys.readouterr()
    assert f"{NAME}: point laguna published" in told.out
    assert "not asked for" in told.err
    assert keys(site, "/complete/") == {"laguna_1.json", "point_1.json"}
    assert run(["plan", *arguments, "--detailed-exitcode"]) == 0
    assert "all of what was asked for is there" in capsys.readouterr().out
