"""Images into Amazon ECR, as its front imitates it: repositories are made, waves fit its mounts."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.cli.registry import OpenedRegistry, open_target_registry
from bundler.events import ignore
from bundler.publish.images import load, plan_images
from bundler.publish.plan import Kind, State, Step
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions, push_images
from bundler.publish.push_archives import ArchivePush
from bundler.publish.push_progress import Sent
from bundler.publish.repositories import create_repositories, plan_repositories
from bundler.reference import ImageTag
from bundler.sizes import size_text
from bundler.target import EcrTarget, RegistryTarget
from tests.pushable import Pushable, make_pushable
from tests.rehearsal import programs
from tests.rehearsal.addresses import REGION
from tests.rehearsal.aws import CREDENTIALS, aws
from tests.rehearsal.ecr_front import EcrFront, Quirks, ecr_front
from tests.rehearsal.fixtures import need
from tests.rehearsal.registry import Registry
from tests.small_release import noise

BASE = noise(200_000, 1)
IMAGES = {"one:1.0": [BASE, noise(50_000, 2)], "two:1.0": [BASE, noise(60_000, 3)]}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Pushable:
    return make_pushable(tmp_path_factory.mktemp("two") / "release", IMAGES, signed="one:1.0")


@pytest.fixture(scope="module")
def front(registry: Registry) -> Iterator[EcrFront]:
    need(lambda: programs.find_in_environment("moto_server"))
    with aws() as moto, ecr_front(registry.url, moto.url) as running:
        yield running


@pytest.fixture
def target(front: EcrFront, monkeypatch: pytest.MonkeyPatch) -> RegistryTarget:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return RegistryTarget(
        host=f"{front.address}/ecr-{uuid.uuid4().hex[:12]}",
        plain_http=True,
        ecr=EcrTarget(region=REGION, endpoint=front.url, immutable_tags=True),
    )


def plan(opened: OpenedRegistry, release: Pushable) -> list[Step]:
    """Plan as ``make_plan`` does."""
    assert opened.repositories is not None
    cargo = load(release.open(), release.images)
    made = list(plan_repositories(opened.repositories, [item.repository for item in cargo], "ECR"))
    without = {step.name for step in made if step.state is not State.PRESENT}
    images = plan_images(
        opened.registry, cargo, "ECR", without=without, repositories=opened.repositories
    )
    return [*made, *images]


def carry_out(
    opened: OpenedRegistry,
    release: Pushable,
    steps: list[Step],
    scratch: Path,
    options: PushOptions = DEFAULT_OPTIONS,
) -> dict[ImageTag, Sent]:
    assert opened.repositories is not None
    create_repositories(opened.repositories, steps, ignore)
    with release.open() as files:
        if opened.push_archive is None:
            return push_images(opened.registry, files, release.images, options=options)
        return ArchivePush(
            push=opened.push_archive,
            registry=opened.registry,
            files=files,
            bundle=release.bundle,
            scratch=scratch,
            host="ECR",
            options=options,
            stop=threading.Event(),
            emit=ignore,
        ).send(release.images)


@pytest.mark.parametrize("engine", ["direct", "skopeo"])
@pytest.mark.parametrize("mounting", [False, True])
def test_repositories_are_made_and_a_second_push_sends_nothing(
    front: EcrFront,
    target: RegistryTarget,
    two: Pushable,
    tmp_path: Path,
    engine: str,
    mounting: bool,
) -> None:
    if engine == "skopeo":
        need(lambda: programs.find("skopeo"))
    front.quirks = Quirks(mounting=mounting)
    opened = open_target_registry(target, tmp_path, login=None, skopeo=engine == "skopeo")
    steps = plan(opened, two)
    assert {step.state for step in steps} == {State.TO_DO}
    assert [step.name for step in steps if step.kind is Kind.REPOSITORY] == ["one", "two"]
    told = next(step for step in steps if step.name == "two:1.0")
    sent = carry_out(opened, two, steps, tmp_path)
    if engine == "direct":
        went = sum(each.sent for each in sent.values())
        assert went == sum(step.size for step in steps)  # the plan said what would come
        assert sent[ImageTag("two", "1.0")].again == (0 if mounting else len(BASE))
        # ECR mounts only what a stored manifest names, and only where the account says so.
        assert sent[ImageTag("two", "1.0")].mounted == (len(BASE) if mounting else 0)
    becomes = "not sent again if" if mounting else "sent again: the account setting BLOB_MOUNTING"
    assert told.detail.startswith(f"{size_text(len(BASE))} shared with other images, {becomes}")
    after = plan(opened, two)
    assert {step.state for step in after} == {State.PRESENT}
    front.requests.clear()
    if engine == "direct":
        carry_out(opened, two, after, tmp_path)
        assert {request.split()[0] for request in front.requests} <= {"GET", "HEAD"}


def test_where_nobody_may_see_whether_ecr_mounts_the_plan_counts_on_none(
    front: EcrFront, target: RegistryTarget, two: Pushable, tmp_path: Path
) -> None:
    front.quirks = Quirks(mounting=True)
    front.denied = {"GetAccountSetting"}
    opened = open_target_registry(target, tmp_path, login=None, skopeo=False)
    try:
        told = next(step for step in plan(opened, two) if step.name == "two:1.0")
    finally:
        front.denied = set()
    assert told.detail.endswith("unless BLOB_MOUNTING is on; ecr:GetAccountSetting would tell")
    assert told.size > len(BASE)
    assert told.shared == 0


def test_of_mounts_ecr_is_asked_only_where_images_share_something(
    front: EcrFront, target: RegistryTarget, two: Pushable, tmp_path: Path
) -> None:
    opened = open_target_registry(target, tmp_path, login=None, skopeo=False)
    front.requests.clear()
    plan(opened, replace(two, images=two.images[:1]))
    assert "GetAccountSetting" not in front.requests


def test_a_login_that_ends_in_the_middle_is_renewed(
    front: EcrFront, target: RegistryTarget, two: Pushable, tmp_path: Path
) -> None:
    front.quirks = Quirks(login_requests=20)
    opened = open_target_registry(target, tmp_path, login=None, skopeo=False)
    front.requests.clear()
    # One at a time: several threads would use a login of so few requests up for each other.
    carry_out(opened, two, plan(opened, two), tmp_path, PushOptions(parallel=1))
    assert len([each for each in front.requests if "GetAuthorizationToken" in each]) > 1
    front.quirks = Quirks()
    assert {step.state for step in plan(opened, two)} == {State.PRESENT}
