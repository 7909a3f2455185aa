from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from bundler.cli.plan import show_plan
from bundler.digest import Digest
from bundler.errors import ConflictError, MalformedError
from bundler.manifest import Chart
from bundler.publish.chart import RenderedChart, plan_chart
from bundler.publish.plan import Kind, Plan, State, Step, require_no_conflicts
from bundler.publish.secrets import plan_namespace, plan_secret, read_secrets, secret_object
from bundler.reference import S3Prefix
from bundler.target import (
    KubernetesTarget,
    RegistryTarget,
    S3Target,
    SecretSource,
    Target,
)
from bundler.tools.helm_release import Installed
from tests.fake_cluster import FakeCluster
from tests.unit.small_files import SOME

PLAN = Plan(
    release="demo-1.0.0",
    manifest=SOME,
    steps=(
        Step(kind=Kind.IMAGE, name="a:1", state=State.TO_DO, size=10),
        Step(kind=Kind.IMAGE, name="b:1", state=State.PRESENT),
        Step(kind=Kind.CHECKPOINT_FILE, name="a:1", state=State.CONFLICT, detail="has 1 byte"),
        Step(kind=Kind.MARKER, name="m", state=State.TO_DO, size=3),
    ),
)


def test_a_plan_counts_what_is_to_do() -> None:
    assert [step.name for step in PLAN.pending] == ["a:1", "m"]
    assert PLAN.pending_bytes == 13
    assert PLAN.is_pending(Kind.IMAGE, "a:1")
    assert not PLAN.is_pending(Kind.IMAGE, "b:1")
    assert not PLAN.is_pending(Kind.CHECKPOINT_FILE, "a:1")


def test_conflicts_are_all_named() -> None:
    with pytest.raises(ConflictError, match="checkpoint file a:1: has 1 byte"):
        require_no_conflicts(PLAN)
    require_no_conflicts(dataclasses.replace(PLAN, steps=PLAN.steps[:2]))


def test_several_conflicts_are_a_line_each_and_are_not_told_twice_to_people() -> None:
    several = dataclasses.replace(
        PLAN,
        steps=(
            *PLAN.steps,
            Step(kind=Kind.REPOSITORY, name="r", state=State.CONFLICT, command="aws ecr one"),
            Step(kind=Kind.REPOSITORY, name="s", state=State.CONFLICT, command="aws ecr two"),
        ),
    )
    with pytest.raises(ConflictError) as caught:
        require_no_conflicts(several)
    first, *rest = str(caught.value).splitlines()
    assert first == "3 conflicts:"
    assert rest == ["checkpoint file a:1: has 1 byte", "repository r", "repository s"]
    assert str(caught.value.hint).splitlines()[1:] == ["aws ecr one", "aws ecr two"]
    with pytest.raises(ConflictError, match=r"^3 conflicts, marked ! above$"):
        require_no_conflicts(several, shown=True)
    with pytest.raises(ConflictError, match="checkpoint file a:1: has 1 byte"):
        require_no_conflicts(PLAN, shown=True)


def test_what_is_shown_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        Step(kind=Kind.CHECKPOINT_FILE, name=str(n), state=State.TO_DO, size=1024, group="s3://b/c")
        for n in range(12)
    ]
    image = Step(
        kind=Kind.IMAGE,
        name="b:1",
        place="r.example.com/llm/b:1",
        state=State.TO_DO,
        shared=2048,
        detail="2.0 KiB shared with other images, not sent again if the registry mounts them",
    )
    late = Step(kind=Kind.CHART, name="inference", state=State.NOT_ASKED)
    show_plan(dataclasses.replace(PLAN, steps=(*PLAN.steps, image, *files, late)))
    assert capsys.readouterr().out.splitlines() == [
        "+ image a:1  10 B",
        "= image b:1",
        "! checkpoint file a:1: has 1 byte",
        "+ completion marker m  3 B",
        "+ image r.example.com/llm/b:1: 2.0 KiB shared with other images, not sent again if the "
        "registry mounts them",
        "+ checkpoint s3://b/c (12 files)  12.0 KiB",
        "(= present, + to do, ! conflict)",
        "demo-1.0.0: to do: 2 images, 1 completion marker, 12 checkpoint files; 12.0 KiB to send; "
        "2.0 KiB more if the registry does not mount what images share",
        "demo-1.0.0: conflict: 1 checkpoint file",
        "demo-1.0.0: present: 1 image",
        "demo-1.0.0: not asked for: chart",
    ]


@pytest.mark.parametrize("states", [(), (State.PRESENT,), (State.PRESENT, State.NOT_ASKED)])
def test_a_plan_with_nothing_to_do_says_so(
    capsys: pytest.CaptureFixture[str], states: tuple[State, ...]
) -> None:
    steps = tuple(Step(kind=Kind.IMAGE, name=state, state=state) for state in states)
    show_plan(dataclasses.replace(PLAN, steps=steps))
    *_, last = capsys.readouterr().out.splitlines()
    asked = " of what was asked for" if State.NOT_ASKED in states else ""
    assert last == f"demo-1.0.0: all{asked} is there; nothing to do"


def test_a_plan_tells_machines_the_same() -> None:
    facts: Any = PLAN.to_dict()
    assert facts["steps"][1]["kept"] is False
    assert (facts["pending"], facts["conflicts"], facts["pendingBytes"]) == (2, 1, 13)
    assert facts["steps"][2]["state"] == "conflict"
    shared = Step(kind=Kind.IMAGE, name="c:1", state=State.TO_DO, size=5, shared=7)
    facts = dataclasses.replace(PLAN, steps=(*PLAN.steps, shared)).to_dict()
    assert (facts["pendingBytes"], facts["sharedBytes"]) == (18, 7)
    assert facts["steps"][4]["sharedBytes"] == 7


def rendered(values: dict[str, object]) -> RenderedChart:
    return RenderedChart(
        chart=Chart(name="inference", version="2.0.0", path="charts/inference", digest=SOME),
        path=Path("chart"),
        values=values,
        values_file=b"",
        values_path=Path("values.yaml"),
        objects=(),
    )


def installed(status: str = "deployed", chart: str = "inference-2.0.0") -> Installed:
    return Installed(revision=3, status=status, chart=chart, values={"a": 1}, last_good=2)


@pytest.mark.parametrize(
    ("found", "state", "detail"),
    [
        (None, State.TO_DO, "to install inference-2.0.0"),
        (installed(), State.PRESENT, ""),
        (installed("failed"), State.TO_DO, "revision 3 is failed"),
        (installed(chart="inference-1.0.0"), State.TO_DO, "inference-1.0.0 becomes"),
        (dataclasses.replace(installed(), values={"a": 2}), State.TO_DO, "values change"),
        (dataclasses.replace(installed(), values={"a": 1, "b": None}), State.TO_DO, "values"),
        (
            installed("pending-upgrade"),
            State.CONFLICT,
            "helm rollback inference 2 --namespace poolside-models",
        ),
        (
            dataclasses.replace(installed("pending-install"), last_good=None),
            State.CONFLICT,
            "helm uninstall inference --namespace poolside-models",
        ),
    ],
)
def test_helm_is_called_only_when_something_differs(
    found: Installed | None, state: State, detail: str
) -> None:
    step = plan_chart(found, rendered({"a": 1}), KubernetesTarget())
    assert step.state is state
    assert detail in step.detail


def target(tmp_path: Path, **files: str) -> Target:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    key = tmp_path / "key" if "key" in files else None
    aws = SecretSource(name="aws", from_file=tmp_path / "aws") if "aws" in files else None
    return Target(
        registry=RegistryTarget(host="r.example.com"),
        s3=S3Target(place=S3Prefix("bucket", ""), credentials=aws),
        api_key=SecretSource(name="vllm-auth", from_file=key),
    )


AWS = "# pods\nAWS_ACCESS_KEY_ID=id\n\nAWS_SECRET_ACCESS_KEY=a=b\n"


def test_secrets_are_read_from_their_files(tmp_path: Path) -> None:
    key, aws = read_secrets(target(tmp_path, key="sk-1\n", aws=AWS))
    assert key.content == {"VLLM_API_KEY": "sk-1"}
    assert aws.content == {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "a=b"}
    assert "sk-1" not in repr(key)


def test_an_api_key_from_elsewhere_wins_over_the_file(tmp_path: Path) -> None:
    [key] = read_secrets(target(tmp_path, key="sk-1\n"), api_key="sk-2\n")
    assert key.content == {"VLLM_API_KEY": "sk-2"}


@pytest.mark.parametrize(
    "content", ["", "\n", "two words", "two\nlines", "gr\u00fc\u00df", "a\x00"]
)
def test_an_api_key_that_no_header_carries_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(MalformedError, match="one line of printable ASCII") as caught:
        read_secrets(target(tmp_path, key=content))
    assert not content.strip() or content not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("AWS_ACCESS_KEY_ID=a\n", "aws: expected a line AWS_SECRET_ACCESS_KEY"),
        (AWS + "AWS_SESSION_TOKEN=hidden\n", "aws:5: expected"),
        (AWS + "AWS_ACCESS_KEY_ID=hidden\n", "aws:5: expected"),
        ("AWS_ACCESS_KEY_ID=\n", "aws:1: expected"),
        ("hidden\n", "aws:1: expected"),
    ],
)
def test_bad_credentials_are_named_by_line_and_never_shown(
    tmp_path: Path, content: str, place: str
) -> None:
    with pytest.raises(MalformedError, match=re.escape(place)) as caught:
        read_secrets(target(tmp_path, aws=content))
    assert "hidden" not in str(caught.value)


def test_an_api_key_without_a_place_is_refused(tmp_path: Path) -> None:
    keyless = dataclasses.replace(target(tmp_path), api_key=None)
    with pytest.raises(MalformedError, match="apiKey names no secret"):
        read_secrets(keyless, api_key="sk-1")


@pytest.mark.parametrize(
    ("there", "label", "state"),
    [
        (None, "", State.TO_DO),
        ({"VLLM_API_KEY": "sk-1"}, "", State.PRESENT),
        ({"VLLM_API_KEY": "sk-1", "more": "x"}, "", State.PRESENT),
        ({"VLLM_API_KEY": "other"}, "", State.CONFLICT),
        ({"VLLM_API_KEY": "other"}, "Helm", State.CONFLICT),
        ({"VLLM_API_KEY": "other"}, "bundle", State.TO_DO),
        ({"vllm_api_key": "sk-1"}, "", State.CONFLICT),
    ],
)
def test_a_secret_is_made_kept_or_a_conflict(
    tmp_path: Path, there: dict[str, str] | None, label: str, state: State
) -> None:
    cluster = FakeCluster()
    if there is not None:
        cluster.add_secret("vllm-auth", there, label=label)
    [wanted] = read_secrets(target(tmp_path, key="sk-1"))
    step = plan_secret(cluster, wanted, "models")
    assert step.state is state
    assert "sk-1" not in str(step)
    cluster.apply(secret_object(wanted, "models"))
    assert plan_secret(cluster, wanted, "models").state is State.PRESENT


def test_a_namespace_that_is_being_deleted_is_a_conflict() -> None:
    cluster = FakeCluster()
    assert plan_namespace(cluster, "models").state is State.TO_DO
    for phase, state in (("Active", State.PRESENT), ("Terminating", State.CONFLICT)):
        cluster.things["namespace", "models"] = {"status": {"phase": phase}}
        assert plan_namespace(cluster, "models").state is state


def test_the_digest_of_the_manifest_is_told() -> None:
    assert PLAN.to_dict()["manifestSha256"] == Digest.of(b"some").hex
