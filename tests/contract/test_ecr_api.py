"""The API of Amazon ECR: logins and repositories, against moto and against scripted answers."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from types_boto3_ecr import ECRClient

from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ConflictError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.events import Event, Finished, Started
from bundler.publish.plan import Kind, Plan, State, Step, require_no_conflicts
from bundler.publish.repositories import create_repositories, plan_repositories
from bundler.stores import ecr_client
from bundler.stores.base import MissingRepository
from bundler.stores.ecr import Ecr, ecr_host, open_ecr
from bundler.stores.ecr_client import EcrLogins
from bundler.stores.ecr_errors import Place
from bundler.stores.login import Login
from bundler.target import EcrTarget
from tests.rehearsal import programs
from tests.rehearsal.aws import CREDENTIALS, ECR_PASSWORD, Aws, aws
from tests.rehearsal.fixtures import need
from tests.rehearsal.serving import LOOPBACK, in_thread

ACCOUNT = "123456789012"
ONES = "1" * 12
HOST = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": 14,
                },
                "action": {"type": "expire"},
            }
        ]
    }
)
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            }
        ],
    }
)
MANIFEST = json.dumps({"mediaType": "application/vnd.oci.image.manifest.v1+json"})
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"


Answer = tuple[int, object]
Reply = Callable[[str, dict[str, object]], Answer]


@pytest.fixture(scope="module")
def moto() -> Iterator[Aws]:
    need(lambda: programs.find_in_environment("moto_server"))
    with aws() as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def client(moto: Aws) -> Iterator[ECRClient]:
    """moto's API, with no repository in it."""
    made = boto3.Session().client("ecr", region_name=moto.region, endpoint_url=moto.url)
    yield made
    for each in made.describe_repositories()["repositories"]:
        made.delete_repository(repositoryName=each["repositoryName"], force=True)


@pytest.fixture
def everything(tmp_path: Path) -> EcrTarget:
    tmp_path.joinpath("life cycle.json").write_text(LIFECYCLE)
    tmp_path.joinpath("policy.json").write_text(POLICY)
    return EcrTarget(
        scan_on_push=True,
        immutable_tags=True,
        kms_key=KEY,
        tags={"team": "in, ference", "cost center": "it's"},
        lifecycle_policy=tmp_path / "life cycle.json",
        policy=tmp_path / "policy.json",
    )


def at(moto: Aws, settings: EcrTarget | None = None, *, host: str = HOST) -> Ecr:
    return open_ecr(host, replace(settings or EcrTarget(), endpoint=moto.url))


def told(error: BundleError) -> str:
    return f"{error} {error.hint}"


class TestHosts:
    @pytest.mark.parametrize(
        ("host", "account", "region", "fips", "dual_stack"),
        [
            (HOST, ACCOUNT, "us-east-1", False, False),
            (f"{HOST}/team/models", ACCOUNT, "us-east-1", False, False),
            (f"{HOST.upper()}:443", ACCOUNT, "us-east-1", False, False),
            (
                "1" * 12 + ".dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "1" * 12,
                "us-gov-west-1",
                1,
                0,
            ),
            (f"{ONES}.dkr.ecr.cn-north-1.amazonaws.com.cn", ONES, "cn-north-1", False, False),
            (f"{ONES}.dkr-ecr.eu-west-1.on.aws", ONES, "eu-west-1", False, True),
            (f"{ONES}.dkr-ecr-fips.us-east-1.on.aws", ONES, "us-east-1", True, True),
            (f"{ONES}.dkr.ecr.us-iso-east-1.c2s.ic.gov", ONES, "us-iso-east-1", False, False),
            (f"{ONES}.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", ONES, "us-isob-east-1", False, False),
            (f"{ONES}.dkr.ecr.eusc-de-east-1.amazonaws.eu", ONES, "eusc-de-east-1", False, False),
        ],
    )
    def test_every_partition_is_known(
        self, host: str, account: str, region: str, fips: bool, dual_stack: bool
    ) -> None:
        found = ecr_host(host)
        assert found is not None
        assert (found.account, found.region) == (account, region)
        assert (found.fips, found.dual_stack) == (fips, dual_stack)

    @pytest.mark.parametrize(
        "host",
        [
            "registry.example.com",
            "public.ecr.aws/team",
            f"{HOST}.evil.example",
            f"evil.example/{HOST}",
            f"{ACCOUNT}.dkr.ecr.us-east-1.example.com",
            f"{ACCOUNT}.dkr-ecr.us-east-1.amazonaws.com",
            f"{ACCOUNT}.dkr.ecr.us-east-1.on.aws",
            f"1{HOST}",
            f"{HOST}:5000",
        ],
    )
    def test_no_other_host_gets_a_login_of_aws(self, host: str) -> None:
        assert ecr_host(host) is None

    @pytest.mark.parametrize(
        ("host", "settings", "server"),
        [
            (HOST, EcrTarget(), "https://api.ecr.us-east-1.amazonaws.com"),
            (HOST, EcrTarget(fips=True), "https://ecr-fips.us-east-1.amazonaws.com"),
            (
                f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                None,
                "https://ecr-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn",
                None,
                "https://api.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                f"{ACCOUNT}.dkr-ecr.eu-west-1.on.aws",
                None,
                "https://ecr.eu-west-1.api.aws",
            ),
            (
                f"{ACCOUNT}.dkr.ecr.us-iso-east-1.c2s.ic.gov",
                None,
                "https://api.ecr.us-iso-east-1.c2s.ic.gov",
            ),
            (
                f"{ACCOUNT}.dkr.ecr-fips.us-east-1.amazonaws.com",
                EcrTarget(endpoint="https://vpce-1.example.com"),
                "https://vpce-1.example.com",
            ),
            (
                "registry.example.com",
                EcrTarget(region="eu-west-1"),
                "https://api.ecr.eu-west-1.amazonaws.com",
            ),
        ],
    )
    def test_the_api_is_that_of_the_host(
        self, host: str, settings: EcrTarget | None, server: str
    ) -> None:
        logins = open_ecr(host, settings).logins
        assert isinstance(logins, EcrLogins)
        assert logins._place.server == server

    def test_a_variable_names_the_endpoint_also_of_a_fips_host(
        self, moto: Aws, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", moto.url)
        fips = HOST.replace("ecr", "ecr-fips")
        assert open_ecr(fips, None).logins.current() == Login("AWS", ECR_PASSWORD)

    def test_a_host_without_a_region_needs_one(self) -> None:
        with pytest.raises(MalformedError, match="its name has no region"):
            open_ecr("registry.example.com", EcrTarget())


class Scripted:
    """An API of ECR that answers as a test says, and remembers what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.reply: Reply

    def open(self, settings: EcrTarget | None = None, *, host: str = HOST) -> Ecr:
        return open_ecr(host, replace(settings or EcrTarget(), endpoint=self.url))

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.asked]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(ecr_client, "_ATTEMPTS", 2)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            action = self.headers["X-Amz-Target"].rpartition(".")[2]
            body: dict[str, object] = json.loads(content)
            script.asked.append((action, body))
            status, answer = script.reply(action, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    script = Scripted(f"http://{LOOPBACK}:{server.server_address[1]}")
    with in_thread(server):
        yield script


def refusal(code: str, message: str = "") -> Answer:
    return 400, {"__type": code, "message": message}


def authorization(password: str, expires: float) -> Answer:
    token = base64.b64encode(f"AWS:{password}".encode()).decode()
    return 200, {"authorizationData": [{"authorizationToken": token, "expiresAt": expires}]}


@dataclass
class Clock:
    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now


class TestLogins:
    HOURS = 12 * 3600

    def logins(self, scripted: Scripted, clock: Clock) -> EcrLogins:
        numbers = iter(range(1, 100))
        scripted.reply = lambda *_: authorization(f"p{next(numbers)}", clock.now + self.HOURS)
        client = ecr_client.connect(
            endpoint=scripted.url, region="us-east-1", fips=False, dual_stack=False, ca=None
        )
        return EcrLogins(client, Place(HOST, scripted.url), clock=clock)

    def test_one_login_serves_until_half_an_hour_before_its_end(self, scripted: Scripted) -> None:
        clock = Clock()
        logins = self.logins(scripted, clock)
        assert logins.current() == Login("AWS", "p1")
        clock.now += self.HOURS - 31 * 60
        assert logins.current() == Login("AWS", "p1")
        clock.now += 2 * 60
        assert logins.current() == Login("AWS", "p2")
        assert len(scripted.asked) == 2

    def test_one_that_cannot_be_renewed_early_serves_to_its_end(self, scripted: Scripted) -> None:
        clock = Clock()
        logins = self.logins(scripted, clock)
        assert logins.current() == Login("AWS", "p1")
        gives = scripted.reply
        scripted.reply = lambda *_: refusal("ServerException", "not now")
        clock.now += self.HOURS - 20 * 60
        assert logins.current() == logins.current() == Login("AWS", "p1")
        asked = len(scripted.asked)
        clock.now += 61
        assert logins.current() == Login("AWS", "p1")
        assert len(scripted.asked) > asked
        with pytest.raises(WorldError, match="not now"):
            logins.renew()
        clock.now += 19 * 60
        with pytest.raises(WorldError, match="not now"):
            logins.current()
        scripted.reply = gives
        assert logins.current() == Login("AWS", "p2")

    def test_who_renews_early_keeps_nobody_waiting(self, scripted: Scripted) -> None:
        clock, release = Clock(), threading.Event()
        logins = self.logins(scripted, clock)
        logins.current()
        gives = scripted.reply

        def slow(action: str, body: dict[str, object]) -> Answer:
            release.wait(10)
            return gives(action, body)

        scripted.reply = slow
        clock.now += self.HOURS - 20 * 60
        with ThreadPoolExecutor() as pool:
            renewing = pool.submit(logins.current)
            while len(scripted.asked) < 2:
                time.sleep(0.01)
            assert pool.submit(logins.current).result(5) == Login("AWS", "p1")
            release.set()
            assert renewing.result() == logins.current() == Login("AWS", "p2")

    def test_who_may_not_renew_is_not_asked_about_for_each_request(
        self, scripted: Scripted
    ) -> None:
        clock = Clock()
        logins = self.logins(scripted, clock)
        logins.current()
        scripted.reply = lambda *_: refusal("AccessDeniedException", "no")
        clock.now += self.HOURS - 20 * 60
        assert {logins.current() for _ in range(10)} == {Login("AWS", "p1")}
        assert len(scripted.asked) == 2

    def test_a_refused_login_is_replaced_at_once(self, scripted: Scripted) -> None:
        logins = self.logins(scripted, Clock())
        assert logins.current() == Login("AWS", "p1")
        assert logins.renew() == Login("AWS", "p2")
        assert logins.current() == Login("AWS", "p2")

    def test_threads_that_are_refused_together_ask_once(self, scripted: Scripted) -> None:
        logins = self.logins(scripted, Clock())
        logins.current()
        answer, release = scripted.reply, threading.Event()

        def slow(action: str, body: dict[str, object]) -> Answer:
            release.wait(10)
            return answer(action, body)

        scripted.reply = slow
        with ThreadPoolExecutor(8) as threads:
            found = [threads.submit(logins.renew) for _ in range(8)]
            time.sleep(0.2)
            release.set()
            assert {each.result() for each in found} == {Login("AWS", "p2")}
        assert len(scripted.asked) == 2

    def test_a_clock_that_is_wrong_does_not_make_us_ask_for_each_request(self, moto: Aws) -> None:
        logins = at(moto).logins  # moto's logins ended in 2015
        assert logins.current() is logins.current()

    def test_the_password_is_in_no_text(self, scripted: Scripted) -> None:
        logins = self.logins(scripted, Clock())
        assert "p1" not in repr(logins.current())

    @pytest.mark.parametrize("token", ["", "%%%", base64.b64encode(b"nobody").decode()])
    def test_a_malformed_login_is_refused_and_not_shown(
        self, scripted: Scripted, token: str
    ) -> None:
        scripted.reply = lambda *_: (200, {"authorizationData": [{"authorizationToken": token}]})
        with pytest.raises(WorldError, match="the login that Amazon ECR gave is malformed"):
            scripted.open().logins.current()

    def test_no_login_at_all_is_an_error(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: (200, {"authorizationData": []})
        with pytest.raises(WorldError, match="gave no login"):
            scripted.open().logins.current()

    def test_who_may_not_is_told_the_permission(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: refusal("AccessDeniedException", "no")
        with pytest.raises(DeniedError, match="access denied") as caught:
            scripted.open().logins.current()
        assert "allow ecr:GetAuthorizationToken" in told(caught.value)


class TestRepositories:
    def test_what_is_missing_is_made_with_every_setting(
        self, moto: Aws, client: ECRClient, everything: EcrTarget
    ) -> None:
        repositories = at(moto, everything, host=f"{HOST}/team").repositories
        assert repositories.missing(["atlas", "docs"]) == (
            MissingRepository("atlas"),
            MissingRepository("docs"),
        )
        assert repositories.create("atlas")
        assert repositories.missing(["atlas", "docs"]) == (MissingRepository("docs"),)
        [made] = client.describe_repositories()["repositories"]
        assert made["repositoryName"] == "team/atlas"
        assert made["imageScanningConfiguration"] == {"scanOnPush": True}
        assert made["imageTagMutability"] == "IMMUTABLE"
        assert made["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": KEY}
        tags = client.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"]
        assert {each["Key"]: each["Value"] for each in tags} == everything.tags
        self.require_policies(client, "team/atlas")

    def require_policies(self, client: ECRClient, name: str) -> None:
        found = client.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]
        assert json.loads(found) == json.loads(LIFECYCLE)
        policy = client.get_repository_policy(repositoryName=name)["policyText"]
        assert json.loads(policy) == json.loads(POLICY)

    def test_what_the_target_leaves_open_is_left_to_ecr(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: (200, {"repository": {}})
        assert scripted.open().repositories.create("atlas")
        assert scripted.asked == [
            ("CreateRepository", {"repositoryName": "atlas", "registryId": ACCOUNT})
        ]

    def test_a_host_of_ones_own_is_the_callers_registry(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: (200, {"repository": {}})
        settings = EcrTarget(region="us-east-1")
        scripted.open(settings, host="registry.example.com").repositories.create("atlas")
        assert scripted.asked == [("CreateRepository", {"repositoryName": "atlas"})]

    def test_what_is_there_is_left_as_it_is(
        self, moto: Aws, client: ECRClient, everything: EcrTarget
    ) -> None:
        client.create_repository(repositoryName="atlas")
        client.put_image(repositoryName="atlas", imageManifest=MANIFEST, imageTag="1")
        repositories = at(moto, everything).repositories
        assert repositories.missing(["atlas"]) == ()
        assert not repositories.create("atlas")
        [found] = client.describe_repositories()["repositories"]
        assert found["imageTagMutability"] == "MUTABLE"
        with pytest.raises(client.exceptions.LifecyclePolicyNotFoundException):
            client.get_lifecycle_policy(repositoryName="atlas")

    def test_what_a_killed_run_left_is_finished(
        self, moto: Aws, client: ECRClient, everything: EcrTarget
    ) -> None:
        client.create_repository(repositoryName="atlas")
        client.put_lifecycle_policy(repositoryName="atlas", lifecyclePolicyText=LIFECYCLE)
        repositories = at(moto, everything).repositories
        [found] = repositories.missing(["atlas"])
        assert found.detail == "there, and still empty; lacks its repository policy"
        assert repositories.create("atlas")
        self.require_policies(client, "atlas")
        assert repositories.missing(["atlas"]) == ()

    def test_a_policy_of_somebody_else_is_never_replaced(
        self, moto: Aws, client: ECRClient, everything: EcrTarget
    ) -> None:
        other = LIFECYCLE.replace("14", "99")
        client.create_repository(repositoryName="atlas")
        client.put_lifecycle_policy(repositoryName="atlas", lifecyclePolicyText=other)
        at(moto, everything).repositories.create("atlas")
        found = client.get_lifecycle_policy(repositoryName="atlas")["lifecyclePolicyText"]
        assert found == other

    def test_who_may_not_look_at_policies_leaves_them_alone(
        self, scripted: Scripted, everything: EcrTarget
    ) -> None:
        def reply(action: str, body: dict[str, object]) -> Answer:
            if action == "DescribeRepositories":
                return 200, {"repositories": [{"repositoryName": "atlas"}]}
            return refusal("AccessDeniedException", "no")

        scripted.reply = reply
        assert scripted.open(everything).repositories.missing(["atlas"]) == ()

    def test_many_are_asked_for_in_few_calls(self, scripted: Scripted) -> None:
        names = [f"image-{n}" for n in range(130)]
        there = set(names) - {"image-7", "image-128"}

        def reply(action: str, body: dict[str, object]) -> Answer:
            asked = body.get("repositoryNames", [])
            assert isinstance(asked, list)
            if len(asked) > 100:
                return refusal("InvalidParameterException", "at most 100")
            if not there.issuperset(asked):
                return refusal("RepositoryNotFoundException")
            return 200, {"repositories": [{"repositoryName": name} for name in asked]}

        scripted.reply = reply
        missing = scripted.open().repositories.missing(names)
        assert [each.name for each in missing] == ["image-7", "image-128"]
        assert scripted.actions.count("DescribeRepositories") < 30

    @pytest.mark.parametrize("path", ["a_/b", "a//b", "x" * 260, ".."])
    def test_a_path_that_ecr_cannot_have_is_refused(self, moto: Aws, path: str) -> None:
        with pytest.raises(MalformedError, match="not a name of a repository of Amazon ECR"):
            at(moto, host=f"{HOST}/{path}").repositories.missing(["atlas"])


class TestTemplates:
    def answering(self, scripted: Scripted, templates: object, code: str = "") -> Reply:
        def reply(action: str, body: dict[str, object]) -> Answer:
            if action == "DescribeRepositories":
                return refusal("RepositoryNotFoundException")
            return refusal(code) if code else (200, {"repositoryCreationTemplates": templates})

        scripted.reply = reply
        return reply

    ON_PUSH = ("CREATE_ON_PUSH", "REPLICATION")

    @pytest.mark.parametrize(
        ("templates", "made_by"),
        [
            ({"ROOT": ON_PUSH}, "ROOT"),
            ({"team": ON_PUSH, "ROOT": ["REPLICATION"]}, "team"),
            ({"team": ON_PUSH, "team/models": ON_PUSH}, "team/models"),
            ({"team": ON_PUSH, "team/models": ["REPLICATION"]}, None),
            ({"te": ON_PUSH, "other": ON_PUSH}, None),
            ({"team/models/atlas": ON_PUSH}, None),
            ({"ROOT": ["PULL_THROUGH_CACHE"]}, None),
            ({}, None),
        ],
    )
    def test_the_nearest_template_that_makes_on_push_is_named(
        self, scripted: Scripted, templates: dict[str, list[str]], made_by: str | None
    ) -> None:
        found = [{"prefix": key, "appliedFor": value} for key, value in templates.items()]
        self.answering(scripted, found)
        [missing] = scripted.open(host=f"{HOST}/team/models").repositories.missing(["atlas"])
        assert missing.on_push is (made_by is not None)
        assert missing.detail == (f"template {made_by} makes it" if made_by else "")

    def test_what_the_target_says_of_repositories_counts_more(self, scripted: Scripted) -> None:
        self.answering(scripted, [{"prefix": "ROOT", "appliedFor": self.ON_PUSH}])
        settings = EcrTarget(immutable_tags=True)
        assert scripted.open(settings).repositories.missing(["atlas"]) == (
            MissingRepository("atlas"),
        )

    @pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException"])
    def test_who_may_not_look_goes_on_as_without_templates(
        self, scripted: Scripted, code: str
    ) -> None:
        self.answering(scripted, [], code)
        assert scripted.open().repositories.missing(["atlas"]) == (MissingRepository("atlas"),)

    def test_without_create_a_template_will_do(self, scripted: Scripted) -> None:
        self.answering(scripted, [{"prefix": "ROOT", "appliedFor": self.ON_PUSH}])
        settings = EcrTarget(create=False, immutable_tags=True)
        [missing] = scripted.open(settings).repositories.missing(["atlas"])
        assert missing.on_push


class TestMounting:
    ON, OFF, UNSEEN = "", "of Amazon ECR is off", "ecr:GetAccountSetting would tell"

    @pytest.mark.parametrize(
        ("answer", "told", "never"),
        [
            ((200, {"name": "BLOB_MOUNTING", "value": "ENABLED"}), ON, False),
            ((200, {"name": "BLOB_MOUNTING", "value": "DISABLED"}), OFF, True),
            (refusal("AccessDeniedException"), UNSEEN, False),
            ((200, {}), UNSEEN, False),
            ((200, {"value": 5}), UNSEEN, False),
            ((200, {"value": "disabled"}), UNSEEN, False),
            ((200, {"value": {}}), UNSEEN, False),
            ((200, []), UNSEEN, False),
            ((200, "<html>"), UNSEEN, False),
            ((200, None), UNSEEN, False),
            ((404, []), UNSEEN, False),
            ((400, {"__type": 5}), UNSEEN, False),
        ],
    )
    def test_it_is_off_only_where_ecr_says_that_word(
        self, scripted: Scripted, answer: Answer, told: str, never: bool
    ) -> None:
        scripted.reply = lambda *_: answer
        repositories = scripted.open().repositories
        refusal = repositories.mount_refusal()
        assert refusal.endswith(told)
        assert bool(refusal) is bool(told)
        assert repositories.never_mounts() is never


class TestRefusals:
    def test_who_may_not_create_is_given_the_command_for_who_may(
        self, scripted: Scripted, everything: EcrTarget, moto: Aws, client: ECRClient
    ) -> None:
        text = (
            f"User: arn:aws:sts::{ACCOUNT}:assumed-role/x is not authorized to perform: "
            "ecr:CreateRepository on resource: *"
        )
        scripted.reply = lambda *_: refusal("AccessDeniedException", text)
        with pytest.raises(DeniedError, match="ecr:CreateRepository") as caught:
            scripted.open(everything, host=f"{HOST}/team").repositories.create("atlas")
        assert caught.value.hint is not None
        allow, _, command = caught.value.hint.partition("; or have somebody who may run: ")
        for needed in (
            "ecr:CreateRepository",
            "ecr:TagResource",
            "kms:CreateGrant",
            "ecr:PutLifecyclePolicy",
            "ecr:SetRepositoryPolicy",
        ):
            assert needed in allow
        self.run(command, scripted.url, moto)
        [made] = client.describe_repositories()["repositories"]
        assert made["repositoryName"] == "team/atlas"
        assert made["imageScanningConfiguration"] == {"scanOnPush": True}
        assert made["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": KEY}
        tags = client.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"]
        assert {each["Key"]: each["Value"] for each in tags} == everything.tags
        TestRepositories().require_policies(client, "team/atlas")

    def run(self, command: str, endpoint: str, moto: Aws) -> None:
        for line in command.replace(endpoint, moto.url).split(" && "):
            subprocess.run(shlex.split(line), check=True, capture_output=True)

    def test_who_may_not_set_a_policy_is_given_that_command(
        self, scripted: Scripted, everything: EcrTarget
    ) -> None:
        def reply(action: str, body: dict[str, object]) -> Answer:
            if action == "CreateRepository":
                return 200, {"repository": {}}
            return refusal("AccessDeniedException", "no")

        scripted.reply = reply
        with pytest.raises(DeniedError) as caught:
            scripted.open(everything).repositories.create("atlas")
        assert "ecr:PutLifecyclePolicy" in str(caught.value)
        assert "aws ecr put-lifecycle-policy" in told(caught.value)
        assert "create-repository" not in told(caught.value)

    def test_who_may_not_look_is_told_the_permission_and_the_way_out(
        self, scripted: Scripted
    ) -> None:
        scripted.reply = lambda *_: refusal("AccessDeniedException", "no")
        with pytest.raises(DeniedError, match="ecr:DescribeRepositories") as caught:
            scripted.open().repositories.missing(["atlas"])
        assert "registry.ecr.create: false" in told(caught.value)
        assert scripted.open(EcrTarget(create=False)).repositories.missing(["atlas"]) == ()

    def test_somebody_who_was_faster_is_no_error(self, moto: Aws, client: ECRClient) -> None:
        repositories = at(moto).repositories
        assert repositories.create("atlas")
        assert not repositories.create("atlas")

    @pytest.mark.parametrize(
        ("code", "error", "expected"),
        [
            ("LimitExceededException", WorldError, "quota of registered repositories"),
            ("KmsException", WorldError, "registry.ecr.kmsKey"),
            ("ThrottlingException", WorldError, "too busy"),
            ("ServerException", WorldError, "CreateRepository failed at"),
            ("InvalidParameterException", MalformedError, "does not take this"),
            ("ExpiredTokenException", DeniedError, "the session has expired"),
            ("UnrecognizedClientException", DeniedError, "the access key is not known"),
        ],
    )
    def test_each_failure_is_one_line_with_the_way_out(
        self, scripted: Scripted, code: str, error: type[BundleError], expected: str
    ) -> None:
        scripted.reply = lambda *_: refusal(code, "said\nby the service")
        with pytest.raises(error) as caught:
            scripted.open().repositories.create("atlas")
        assert str(caught.value).startswith(f"{HOST}/atlas: ")
        assert expected in told(caught.value)
        assert "\n" not in told(caught.value)

    def test_throttling_for_a_moment_is_sat_out(self, scripted: Scripted) -> None:
        def reply(action: str, body: dict[str, object]) -> Answer:
            if len(scripted.asked) == 1:
                return refusal("ThrottlingException", "Rate exceeded")
            return 200, {"repository": {}}

        scripted.reply = reply
        assert scripted.open().repositories.create("atlas")

    def test_an_api_that_cannot_be_reached_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ecr_client, "_ATTEMPTS", 1)
        settings = EcrTarget(endpoint="http://127.0.0.1:9")
        with pytest.raises(WorldError, match=r"cannot reach http://127\.0\.0\.1:9"):
            open_ecr(HOST, settings).logins.current()

    def test_without_credentials_nothing_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(DeniedError, match="no AWS credentials found"):
            open_ecr(HOST, None).logins.current()

    @pytest.mark.parametrize(
        ("content", "error", "expected"),
        [
            (None, NotFoundError, "correct registry.ecr.lifecyclePolicy"),
            ("{", MalformedError, "not JSON"),
            ("[]", MalformedError, "expected a mapping"),
            (" " * 30_721, MalformedError, "at most 30720 bytes"),
        ],
    )
    def test_a_policy_is_read_before_anything_is_asked(
        self, tmp_path: Path, content: str | None, error: type[BundleError], expected: str
    ) -> None:
        file = tmp_path / "lifecycle.json"
        if content is not None:
            file.write_text(content)
        with pytest.raises(error) as caught:
            open_ecr(HOST, EcrTarget(lifecycle_policy=file))
        assert str(caught.value).startswith(str(file))
        assert expected in told(caught.value)


class TestPlan:
    def test_repositories_are_planned_and_made(self, moto: Aws, client: ECRClient) -> None:
        client.create_repository(repositoryName="team/docs")
        repositories = at(moto, host=f"{HOST}/team").repositories
        steps = list(plan_repositories(repositories, ["atlas", "docs", "atlas"], HOST))
        assert [(step.name, step.state) for step in steps] == [
            ("atlas", State.TO_DO),
            ("docs", State.PRESENT),
        ]
        assert {step.kind for step in steps} == {Kind.REPOSITORY}
        events: list[Event] = []
        create_repositories(repositories, steps, events.append)
        assert events == [
            Started("create", "repository atlas"),
            Finished("repository atlas"),
        ]
        found = client.describe_repositories()["repositories"]
        assert {each["repositoryName"] for each in found} == {"team/atlas", "team/docs"}
        create_repositories(repositories, steps, events.append)
        assert events[-1] == Finished("repository atlas", skipped=True)

    def test_without_create_the_plan_names_the_command(self, moto: Aws, client: ECRClient) -> None:
        repositories = at(moto, EcrTarget(create=False, immutable_tags=True)).repositories
        [step] = plan_repositories(repositories, ["atlas"], HOST)
        assert step.state is State.CONFLICT
        assert "registry.ecr.create is false" in step.detail
        assert "aws ecr create-repository --region us-east-1" in step.command
        assert "--repository-name atlas --image-tag-mutability IMMUTABLE" in step.command

    def test_without_create_each_conflict_is_a_line_and_each_command_is_told_once(
        self, moto: Aws, client: ECRClient
    ) -> None:
        repositories = at(moto, EcrTarget(create=False)).repositories
        names = ["atlas", "docs", "downloader"]
        steps = tuple(plan_repositories(repositories, names, HOST))
        plan = Plan(release="demo-1.0.0", manifest=Digest.of(b""), steps=steps)
        with pytest.raises(ConflictError) as caught:
            require_no_conflicts(plan)
        first, *lines = str(caught.value).splitlines()
        assert first == "3 conflicts:"
        assert [line.partition(":")[0] for line in lines] == [f"repository {n}" for n in names]
        remedy, *commands = str(caught.value.hint).splitlines()
        assert "nothing was sent" in remedy
        assert [line.rpartition(" ")[2] for line in commands] == names
        assert told(caught.value).count("create-repository") == len(names)

    def test_what_comes_by_itself_is_not_to_do(self, scripted: Scripted) -> None:
        TestTemplates().answering(scripted, [{"prefix": "ROOT", "appliedFor": ["CREATE_ON_PUSH"]}])
        steps = list(plan_repositories(scripted.open().repositories, ["atlas"], HOST))
        assert steps == [
            Step(
                kind=Kind.REPOSITORY,
                name="atlas",
                state=State.PRESENT,
                detail="template ROOT makes it",
                place=f"{HOST}/atlas",
            )
        ]
