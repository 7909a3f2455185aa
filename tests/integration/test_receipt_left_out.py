"""A receipt that a run left out is a step of the next plan, and what is none is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler.cli import run
from bundler.errors import DeniedError, WorldError
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.receipt import MAX_RECEIPT_BYTES, decode_receipt
from bundler.release import TrustedRelease
from bundler.stores.base import StoredObject
from tests.integration import test_publish as whole
from tests.integration.released_in_s3 import s3_client
from tests.integration.test_publish import Site
from tests.integration.test_publish_only import NAME, NAMED, plan_only, publish_only
from tests.rehearsal.s3 import S3

site, small = whole.site, whole.small
RECEIPTS = f"llm/releases/{NAME}/receipts/"
PENDING = [Kind.RECEIPT]
PARTS = ("images", "checkpoints")


def kinds(plan: Plan) -> list[Kind]:
    return [step.kind for step in plan.pending]


def remove_receipts(site: Site, server: S3) -> None:
    """Leave what a run left that was killed just before it wrote its receipt."""
    for key in receipts(site):
        s3_client(server).delete_object(Bucket=site.target.s3.place.bucket, Key=key)


def receipts(site: Site) -> list[str]:
    return [key for key in site.objects() if key.startswith(RECEIPTS)]


def test_a_receipt_that_a_run_left_out_is_a_step_of_the_plan(
    site: Site, small: TrustedRelease, s3: S3
) -> None:
    first = site.publish(small)
    assert first is not None
    remove_receipts(site, s3)
    before = site.state()
    plan = site.plan(small)
    [step] = plan.pending
    assert str(step) == f"receipt {RECEIPTS.rstrip('/')}: to write: none there tells of all of it"
    assert site.state() == before
    site.now = "2026-11-22T00:00:00Z"
    late = site.publish(small, plan)
    assert late is not None
    assert late.done == ()
    assert {each.reference for each in late.images} == {each.reference for each in first.images}
    assert {each.key for each in late.objects} == {each.key for each in first.objects}
    assert receipts(site) == [f"{RECEIPTS}{late.name}.json"]
    assert decode_receipt((site.directory / late.file_name).read_bytes(), name="") == late
    assert site.cluster.upgrades == 1
    assert not site.plan(small).pending
    assert site.publish(small) is None


def test_what_comes_after_the_receipt_is_not_told_of_as_done(
    site: Site, small: TrustedRelease
) -> None:
    class Full:
        """Takes no pointer any more once there is a receipt."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def replace(self, key: str, content: bytes) -> None:
            if receipts(site):
                raise WorldError("the bucket is full")
            real.replace(key, content)

    real = site.store
    site.store = Full()  # type: ignore[assignment]
    with pytest.raises(WorldError, match="the bucket is full"):
        site.publish(small)
    [key] = receipts(site)
    done = decode_receipt(real.get(key, limit=MAX_RECEIPT_BYTES), name=key).done
    assert "chart inference" in done
    assert not [step for step in done if step.startswith(Kind.POINTER)]
    site.store = real
    assert kinds(site.plan(small)) == [Kind.POINTER]
    assert site.publish(small) is not None
    assert not site.plan(small).pending


def test_what_the_bucket_says_counts_and_not_what_one_machine_has(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    publish_only(site, small, "images")
    publish_only(site, small, "checkpoints")
    assert kinds(plan_only(site, small, *PARTS)) == PENDING  # of images the bucket knows nothing
    publish_only(site, small, *PARTS)
    elsewhere = replace(site, directory=tmp_path / "elsewhere")
    elsewhere.directory.mkdir()
    assert publish_only(elsewhere, small, *PARTS) is None
    assert not list(elsewhere.directory.iterdir())


def test_images_that_no_receipt_names_are_told_of_after_the_chart(
    site: Site, small: TrustedRelease
) -> None:
    publish_only(site, small, "images")  # whose receipt is here alone, or lost with a kill
    publish_only(site, small, "checkpoints")
    chart = publish_only(site, small, "chart")
    assert chart is not None
    assert {image.tag.name for image in chart.images} == NAMED
    assert not plan_only(site, small, "chart").pending
    assert kinds(site.plan(small)) == PENDING
    late = site.publish(small)
    assert late is not None
    assert "public-docs" in {image.tag.name for image in late.images}
    assert site.publish(small) is None


def test_where_something_is_to_do_that_run_writes_the_receipt_anyway(
    site: Site, small: TrustedRelease, s3: S3
) -> None:
    site.publish(small)
    remove_receipts(site, s3)
    site.target = replace(site.target, values={"models": {"point": {"replicas": 2}}})
    assert Kind.RECEIPT not in kinds(site.plan(small))
    assert site.publish(small) is not None
    assert len(receipts(site)) == 1


def test_what_is_no_receipt_is_passed_over(site: Site, small: TrustedRelease) -> None:
    class Strange:
        """Lists one that is gone when it is asked for, and one that nobody can hold in memory."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def list(self, prefix: str) -> Iterator[StoredObject]:
            yield from real.list(prefix)
            if prefix.endswith("/receipts/"):
                yield StoredObject(f"{prefix}99990101T000000Z-00000000.json", 3)
                yield StoredObject(large, MAX_RECEIPT_BYTES + 1)

        def get(self, key: str, *, limit: int) -> bytes:
            assert key != large
            return real.get(key, limit=limit)

    real, large = site.store, f"{RECEIPTS}99990101T000000Z-11111111.json"
    site.publish(small)
    for number in range(16):
        site.store.put(f"{RECEIPTS}zzzz{number:02}", b"x")
    site.store.put(f"{RECEIPTS}99980101T000000Z-00000000.json", b"x")
    site.store.put(f"{RECEIPTS}99980101T000000Z-11111111.json", b"{}")
    site.store = Strange()  # type: ignore[assignment]
    before = site.state()
    assert not site.plan(small).pending
    assert site.publish(small) is None
    assert site.state() == before


def test_receipts_that_we_may_not_see_are_taken_to_be_there(
    site: Site, small: TrustedRelease, s3: S3
) -> None:
    class Hidden:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def list(self, prefix: str) -> Iterator[StoredObject]:
            if prefix.endswith("/receipts/"):
                raise DeniedError(prefix)
            return real.list(prefix)

    real = site.store
    site.publish(small)
    remove_receipts(site, s3)
    site.store = Hidden()  # type: ignore[assignment]
    assert not site.plan(small).pending


def test_only_what_is_about_images_is_told_with_the_images(
    site: Site, small: TrustedRelease
) -> None:
    stays = {"state": State.PRESENT, "kept": True, "detail": "stays"}
    plan = site.plan(small)
    more = [Step(kind=kind, name="x", **stays) for kind in (Kind.RELEASE_FILE, Kind.IMAGE)]  # type: ignore[arg-type]
    site.publish(small, replace(plan, steps=(*plan.steps, *more)))
    assert "image x: stays" in site.said
    assert "release file x" not in site.said


def test_on_the_command_line_it_is_shown_and_asked_for(
    site: Site, small: TrustedRelease, s3: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_only(site, small, *PARTS)
    remove_receipts(site, s3)
    target: dict[str, Any] = {
        "formatVersion": 1,
        "registry": {"host": site.target.registry.host, "plainHttp": True},
        "s3": {"bucket": site.target.s3.place.bucket, "prefix": "llm"},
        "kubernetes": {"kubeconfig": "none.yaml"},
    }
    target["s3"] |= {"region": s3.region, "endpoint": s3.url}
    (tmp_path / "target.yaml").write_text(yaml.safe_dump(target))
    (tmp_path / "key.pub").write_bytes(small.signers[0].pem)
    arguments = [str(small.directory), "--target", str(tmp_path / "target.yaml")]
    arguments += ["--key", str(tmp_path / "key.pub")]
    arguments += [word for part in PARTS for word in ("--only", part)]
    before = site.objects()
    assert run(["publish", *arguments]) == 2
    said = capsys.readouterr().err
    assert f"+ receipt {site.target.s3.place}/releases/{NAME}/receipts: to write: none" in said
    assert f"{NAME}: to do: receipt; 0 B to send" in said
    assert site.objects() == before
    assert not list(tmp_path.glob("*.receipt.json"))
    assert run(["plan", *arguments, "--json", "--detailed-exitcode"]) == 10
    assert json.loads(capsys.readouterr().out)["pending"] == 1
    assert run(["publish", *arguments, "--yes"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{NAME}: all is there; the record that was missing is written"
    assert second.startswith("receipt  ")
    assert run(["plan", *arguments, "--detailed-exitcode"]) == 0
