"""A canary for every secret that we touch: no child, file, log or answer shows one.

What a child gets in its environment, and why:

- ``helm template`` and ``helm version`` render charts, also those of others, and log in nowhere:
  they get where programs, home and scratch are, and nothing else of ours;
- ``skopeo`` and ``docker-credential-*`` get our environment as it is: helpers of a cloud log in to
  a registry with the variables of AWS, and proxies stand there;
- so do ``kubectl`` and the other words of ``helm``: a kubeconfig names programs (``aws eks
  get-token``) that log in with it.

Nothing is added to it but the place of kubectl's cache, and no secret that came another way.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from bundler.digest import Digest
from bundler.publish.layout import lay_out
from bundler.release import TrustedRelease
from bundler.target_reader import read_target
from bundler.yamltext import read_yaml
from tests.integration.release_inputs import edit_spec, write_inputs, write_layout
from tests.integration.signing import BUNDLE, new_release
from tests.integration.test_attached import push
from tests.integration.watching import Program, Watched, files_with, secrets_in, watch
from tests.publishable import make_publishable
from tests.rehearsal import programs
from tests.rehearsal.addresses import REGION
from tests.rehearsal.aws import aws
from tests.rehearsal.ecr_front import ecr_front
from tests.rehearsal.fixtures import need as need_program
from tests.rehearsal.kms import fake_kms
from tests.rehearsal.registry import Auth, Registry, write_identity_token, write_login
from tests.rehearsal.registry import registry as start_registry
from tests.rehearsal.serving import in_thread
from tests.rehearsal.site import Site

# What stands in the environment of whoever starts us.
AROUND = {
    "AWS secret key": "canary-aws-key-5Hq2",
    "AWS session token": "canary-aws-session-9Lw4",
    "proxy password": "canary-proxy-3Rt7",
    "token of another program": "canary-of-nobody-1Zx6",
}
LOG_IN_NOWHERE = {"helm template", "helm version"}
# How kubectl and a program that a kubeconfig names are told where to work; none is a secret.
ADDED = {"KUBECACHEDIR", "KUBERNETES_EXEC_INFO"}
HELPER = "docker-credential-canary"


def around(port: int = 9) -> dict[str, str]:
    """Give an environment that is full of secrets."""
    proxy_url = f"http://user:{AROUND['proxy password']}@127.0.0.1:{port}"
    return {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": AROUND["AWS secret key"],
        "AWS_SESSION_TOKEN": AROUND["AWS session token"],
        "AWS_REGION": REGION,
        "HTTPS_PROXY": proxy_url,
        "HTTP_PROXY": proxy_url,
        "NO_PROXY": "127.0.0.1",  # boto3 would take even that by way of a proxy
        "VAULT_TOKEN": AROUND["token of another program"],
    }


@dataclass
class Desk:
    """Where somebody works: all that they leave is looked through.

    Attributes:
        work: Their directory; ``tmp`` and ``home`` of it are the system's places.
        secrets: By what they are called.
        issued: Tokens that a server gave so far: its own list, read after each command.
        environment: Set for each command.
        enter: The way to where commands run.
    """

    strace: str
    work: Path
    secrets: dict[str, str]
    issued: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    enter: tuple[str | Path, ...] = ()

    def run(
        self,
        *words: str | Path,
        given: bytes = b"",
        descriptors: tuple[int, ...] = (),
        in_scratch: frozenset[str] = frozenset(),
    ) -> Watched:
        """Run a command that tells all that it does, and let nothing of it show a secret.

        Args:
            words: Its arguments.
            given: Its standard input.
            descriptors: What it inherits beside that.
            in_scratch: The secrets that it may write to files there, which are gone when it ends.
        """
        for name in ("tmp", "home"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        done = watch(
            self.strace,
            [sys.executable, BUNDLE, "-v", *words],
            log=self.work.with_name(f"strace-{uuid.uuid4().hex}"),
            environment={
                "HOME": str(self.work / "home"),
                "TMPDIR": str(self.work / "tmp"),
                "XDG_CACHE_HOME": str(self.work / "home" / "cache"),
                **self.environment,
            },
            given=given,
            descriptors=descriptors,
            enter=self.enter,
        )
        self.require_unseen(done, in_scratch)
        return done

    def require_unseen(self, done: Watched, in_scratch: frozenset[str] = frozenset()) -> None:
        """Look through what a command did, said and left."""
        self.secrets |= {f"token {n}": token for n, token in enumerate(self.issued)}
        assert secrets_in(done.stdout + done.stderr, self.secrets) == set()
        for program in done.programs:
            assert secrets_in("\0".join(program.argv), self.secrets) == set(), program.name
        inherited = done.programs[0].environment
        for program in done.children():
            self._require_judged(program, inherited)
        written = done.files_with(self.secrets)  # even for a moment
        assert {name for name, _ in written} == in_scratch
        assert all(path.startswith(f"{self.work}/tmp/") for _, path in written)
        assert files_with(self.work, self.secrets) == set()
        assert list((self.work / "tmp").iterdir()) == []

    def _require_judged(self, program: Program, inherited: frozenset[str]) -> None:
        shown = secrets_in("\0".join(program.environment), self.secrets)
        assert shown <= AROUND.keys(), program.name
        assert program.name not in LOG_IN_NOWHERE or not shown, program.name
        added = {each.partition("=")[0] for each in program.environment - inherited}
        assert added <= ADDED, program.name


@pytest.fixture
def desk(need: Callable[[str], str], tmp_path: Path) -> Desk:
    strace = need("strace")
    return Desk(strace, tmp_path / "work", dict(AROUND), environment=around())


# What a build asks registries.


@pytest.fixture(scope="module")
def guarded(need: Callable[[str], str]) -> Iterator[dict[Auth, Registry]]:
    need("docker-registry")
    with start_registry(auth="basic") as basic, start_registry(auth="token") as token:
        yield {"basic": basic, "token": token}


def written_login(server: Registry, desk: Desk, aside: Path) -> None:
    desk.environment["DOCKER_CONFIG"] = str(server.docker_config)


def helper_login(server: Registry, desk: Desk, aside: Path) -> None:
    assert server.tokens is not None
    desk.issued = server.tokens.issued
    config, programs_dir = aside / "docker", aside / "bin"
    for directory in (config, programs_dir):
        directory.mkdir(parents=True)
    (config / "config.json").write_text(json.dumps({"credHelpers": {server.address: "canary"}}))
    answer = {"Username": server.username, "Secret": server.password}
    (aside / "answer").write_text(json.dumps(answer))
    helper = programs_dir / HELPER
    helper.write_text(f"#!/bin/sh\nexec cat {aside / 'answer'}\n")
    helper.chmod(0o755)
    desk.environment["DOCKER_CONFIG"] = str(config)
    desk.environment["PATH"] = f"{programs_dir}:{os.environ['PATH']}"


LogIn = Callable[[Registry, Desk, Path], None]
LOGINS = pytest.mark.parametrize(
    ("auth", "log_in"), [("basic", written_login), ("token", helper_login)]
)


@LOGINS
def test_a_build_shows_no_secret(
    desk: Desk,
    guarded: dict[Auth, Registry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    auth: Auth,
    log_in: LogIn,
) -> None:
    server = guarded[auth]
    spec = write_inputs(desk.work / "in")
    repository = f"{server.address}/atlas-{uuid.uuid4().hex[:8]}"
    write_layout(tmp_path / "pushed", text="atlas behind a login")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.authfile))
    push(tmp_path / "pushed", f"{repository}:1.0.0")
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    source = f"source: docker://{repository}:1.0.0\n  plainHttp: true\n"
    if auth == "token":  # a login is not given to another origin, so nothing more is asked there
        source += "  attached: false\n"
    edit_spec(spec, "source: oci:images/atlas:1.0.0\n", source)
    desk.secrets["registry password"] = server.password
    log_in(server, desk, tmp_path / "aside")
    locked = desk.run("lock", spec)
    assert locked.status == 0, locked.stderr
    built = desk.run("build", spec, "-o", desk.work / "out", "--json")
    assert built.status == 0, built.stderr
    started = {program.name for program in (*locked.children(), *built.children())}
    assert started >= {"skopeo copy", "skopeo inspect", "helm template"}
    assert (f"{HELPER} get" in " ".join(started)) == (log_in is helper_login)


@LOGINS
def test_a_build_that_is_refused_shows_no_secret(
    desk: Desk,
    guarded: dict[Auth, Registry],
    tmp_path: Path,
    auth: Auth,
    log_in: LogIn,
) -> None:
    """The login is good, and the image is not there; then the login is wrong."""
    server = guarded[auth]
    spec = write_inputs(desk.work / "in")
    source = f"source: docker://{server.address}/none:1.0.0\n  plainHttp: true\n"
    edit_spec(spec, "source: oci:images/atlas:1.0.0\n", source)
    desk.secrets["registry password"] = server.password
    log_in(server, desk, tmp_path / "aside")
    assert desk.run("lock", spec, "--json").status not in {0, 1}
    wrong = "canary-wrong-login-8Gd5"
    desk.secrets["wrong password"] = wrong
    desk.environment["DOCKER_CONFIG"] = str(write_login(tmp_path / "wrong", server.address, wrong))
    assert desk.run("lock", spec, "--json").status not in {0, 1}


# What a signer opens.


def test_a_new_key_shows_no_passphrase_and_starts_no_program(desk: Desk, tmp_path: Path) -> None:
    """How signing with a key, or a token, treats what opens it: ``test_sign_secrets.py``."""
    secret = desk.secrets["passphrase"] = "canary-passphrase-4Vn3"
    (tmp_path / "pass").write_text(secret)
    made = desk.run("keygen", desk.work / "release", "--passphrase-file", tmp_path / "pass")
    assert made.status == 0, made.stderr
    assert made.children() == ()
    assert (desk.work / "release.key").exists()


def test_signing_with_kms_shows_no_login_and_starts_no_program(desk: Desk) -> None:
    desk.work.mkdir()
    release = new_release(desk.work / "release")
    with fake_kms() as kms:
        kms.add("alias/release")
        desk.environment["AWS_ENDPOINT_URL_KMS"] = kms.url
        done = desk.run("sign", release, "--key", "awskms:alias/release", "--json")
        assert done.status == 0, done.stderr
        assert done.children() == ()
        assert "Sign" in kms.actions


# What a destination is opened with.


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(tmp_path_factory.mktemp("secrets") / "release")


def write_target(directory: Path, release: TrustedRelease, **parts: object) -> list[str | Path]:
    """Write a target beside the key that signed a release; give the words that name all three."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "release.pub").write_bytes(release.signers[0].pem)
    unused = {"s3": {"bucket": "unused"}, "kubernetes": {"namespace": "unused"}}
    (directory / "target.yaml").write_text(yaml.safe_dump({"formatVersion": 1, **unused, **parts}))
    target = ("--target", directory / "target.yaml")
    return [release.directory, *target, "--key", directory / "release.pub", "--json"]


def key_line(pem: bytes) -> str:
    """Give a line from the midst of a private key in PEM."""
    assert b"PRIVATE KEY" in pem
    return pem.splitlines()[2].decode()


PUBLISH = ("--yes", "--only", "images")


@pytest.mark.parametrize("engine", ["direct", "skopeo"])
def test_a_push_shows_no_password_and_no_key_of_a_client(
    desk: Desk, release: TrustedRelease, tmp_path: Path, engine: str, need: Callable[[str], str]
) -> None:
    """What skopeo gets lies in files of its own, for as long as it runs."""
    need("docker-registry")
    with start_registry(auth="basic", client_tls=True) as server:
        assert server.client is not None
        access = {
            "host": server.address,
            "ca": str(server.ca_file),
            "clientCertificate": str(server.client.certificate),
            "clientKey": str(server.client.key),
        }
        desk.secrets["key of a client"] = key_line(server.client.key.read_bytes())
        desk.secrets["registry password"] = server.password
        words = write_target(desk.work / "target", release, registry=access)
        how = ("--registry-user", server.username, "--registry-password-stdin")
        files = {"registry password", "key of a client"} if engine == "skopeo" else set()
        done = desk.run(
            *("publish", *words, *PUBLISH, "--image-engine", engine, *how),
            given=server.password.encode(),
            in_scratch=frozenset(files),
        )
        assert done.status == 0, done.stderr
        assert list((desk.work / "target").glob("*.receipt.json"))
        assert (done.children() == ()) == (engine == "direct")
        desk.secrets["wrong password"] = "canary-wrong-1Bq9"
        refused = desk.run("status", *words, "--only", "images", *how, given=b"canary-wrong-1Bq9")
        assert refused.status == 9, refused.stderr


def test_a_push_shows_no_identity_token_and_no_token_for_it(
    desk: Desk, release: TrustedRelease, tmp_path: Path, need: Callable[[str], str]
) -> None:
    need("docker-registry")
    with start_registry(auth="token") as server:
        assert server.tokens is not None
        desk.secrets["identity token"] = server.tokens.identity_token
        desk.issued = server.tokens.issued
        login = write_identity_token(tmp_path / "docker", server)
        access = {
            "host": server.address,
            "plainHttp": True,
            "authFile": str(login / "config.json"),
            "tokenServer": server.tokens.realm.removesuffix("/token"),
        }
        words = write_target(desk.work / "target", release, registry=access)
        done = desk.run("publish", *words, *PUBLISH)
        assert done.status == 0, done.stderr
        assert server.tokens.issued


def test_a_push_to_ecr_shows_no_login_that_ecr_gave(
    desk: Desk, release: TrustedRelease, registry: Registry
) -> None:
    need_program(lambda: programs.find_in_environment("moto_server"))
    with aws() as moto, ecr_front(registry.url, moto.url) as front:
        access = {
            "host": f"{front.address}/{uuid.uuid4().hex[:12]}",
            "plainHttp": True,
            "ecr": {"region": REGION, "endpoint": front.url},
        }
        words = write_target(desk.work / "target", release, registry=access)
        done = desk.run("publish", *words, *PUBLISH)
        assert done.status == 0, done.stderr
        desk.secrets |= {f"login {n}": password for n, password in enumerate(front.logins)}
        assert desk.secrets.keys() > AROUND.keys()
        desk.require_unseen(done)


class _Refusing(BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_error(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)


@contextlib.contextmanager
def refusing_proxy() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server, in_thread(server):
        yield server.server_address[1]


@pytest.mark.parametrize("up", [True, False], ids=["refuses", "is down"])
def test_a_proxy_that_leads_nowhere_is_told_without_its_password(
    desk: Desk, release: TrustedRelease, up: bool
) -> None:
    access = {"host": "registry.invalid", "authFile": "auth.json"}
    words = write_target(desk.work / "target", release, registry=access)
    (desk.work / "target" / "auth.json").write_text("{}")
    with refusing_proxy() as port:
        desk.environment |= around(port if up else 9)
        done = desk.run("plan", *words, "--only", "images")
    assert done.status == 9, done.stderr


# All of it at once.


@pytest.fixture
def cloud(desk: Desk, site: Site, tmp_path: Path) -> Path:
    """Put the desk into a rehearsal, and give a kubeconfig that names a program which logs in."""
    keys = site.s3_credentials
    del desk.environment["AWS_SESSION_TOKEN"]  # the rehearsal's S3 knows none
    desk.enter = (site.enter,)
    desk.secrets["AWS secret key"] = keys.secret_key
    desk.environment |= {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
    }
    desk.environment |= {
        "AWS_ENDPOINT_URL_S3": site.s3_endpoint,
        "AWS_CA_BUNDLE": str(site.ca_file),
    }
    kubeconfig = yaml.safe_load(site.kubeconfig.read_text())
    [user] = kubeconfig["users"]
    certificate, key = (
        base64.b64decode(user["user"][f"client-{what}-data"]).decode()
        for what in ("certificate", "key")
    )
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"clientCertificateData": certificate, "clientKeyData": key},
    }
    desk.secrets["key for the cluster"] = key_line(key.encode())
    (tmp_path / "credential.json").write_text(json.dumps(credential))
    user["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "cat",
            "args": [str(tmp_path / "credential.json")],
            "interactiveMode": "Never",
        }
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    return tmp_path / "kubeconfig"


@pytest.mark.rehearsal
def test_what_is_published_shows_no_secret(
    desk: Desk, site: Site, cloud: Path, release: TrustedRelease, tmp_path: Path
) -> None:
    name = f"secrets-{uuid.uuid4().hex[:8]}"
    desk.secrets |= {"API key": "canary-api-key-8Wm2", "key of pods": "canary-of-pods-0Xc4"}
    desk.secrets["registry password"] = registry_password(site)
    (tmp_path / "pods").write_text(
        f"AWS_ACCESS_KEY_ID=AKIAPODS\nAWS_SECRET_ACCESS_KEY={desk.secrets['key of pods']}\n"
    )
    access = {"host": f"{site.registry}/{name}", "ca": str(site.ca_file)}
    place = {
        "bucket": site.bucket,
        "prefix": name,
        "region": REGION,
        "endpoint": site.s3_endpoint,
        "ca": str(site.ca_file),
    }
    pods = {"secretName": "pods", "fromFile": str(tmp_path / "pods")}
    words = write_target(
        desk.work / "target",
        release,
        registry={**access, "authFile": str(site.authfile)},
        s3={**place, "credentials": pods},
        kubernetes={"kubeconfig": str(cloud), "namespace": name, "timeoutSeconds": 1},
        apiKey={"secretName": "vllm-auth"},
    )
    sent = desk.run("publish", *words, "--yes", "--only", "images", "--only", "checkpoints")
    assert sent.status == 0, sent.stderr
    installed = desk.run(
        *("publish", *words, "--yes", "--api-key-stdin"), given=desk.secrets["API key"].encode()
    )
    assert installed.status == 8, installed.stderr  # no pod of such images gets ready
    status = desk.run("status", *words)
    assert status.status in {0, 8}, status.stderr
    started = {program.name for done in (installed, status) for program in done.children()}
    assert started >= {"kubectl apply", "helm template", "helm upgrade"}
    require_unseen_there(desk, site, name)
    fetched = desk.run(*fetch_words(desk.work, release))
    assert fetched.status == 0, fetched.stderr
    assert fetched.children() == ()
    assert list((desk.work / "models").iterdir())
    desk.environment["AWS_SECRET_ACCESS_KEY"] = desk.secrets["wrong key"] = "canary-wrong-6Pb1"
    assert desk.run(*fetch_words(desk.work, release, "other")).status == 9


def fetch_words(work: Path, release: TrustedRelease, name: str = "models") -> list[str | Path]:
    """Give the words with which the chart starts a pod."""
    file = work / "target" / "target.yaml"
    target = read_target(read_yaml(file.read_bytes(), name="target"), base=file.parent)
    layout = lay_out(release.manifest, target)
    [checkpoint, *_] = layout.checkpoints
    exact = ["--manifest", layout.manifest_url, "--checkpoint", checkpoint]
    digest = ["--manifest-sha256", Digest.of(release.manifest_bytes).hex]
    return ["fetch", str(layout.checkpoints[checkpoint]), work / name, "--json", *exact, *digest]


def registry_password(site: Site) -> str:
    [entry] = json.loads(site.authfile.read_text())["auths"].values()
    return base64.b64decode(entry["auth"]).decode().partition(":")[2]


def require_unseen_there(desk: Desk, site: Site, name: str) -> None:
    """Look through the bucket and the namespace; Secrets alone may hold what pods need."""
    copy = desk.work.with_name("bucket")
    aws_s3 = ["aws", "s3", "cp", "--recursive", "--endpoint-url", site.s3_endpoint]
    site.run([*aws_s3, f"s3://{site.bucket}/{name}", copy], env=site.environment())
    assert list(copy.glob("releases/*/receipts/*"))
    assert files_with(copy, desk.secrets) == set()
    namespaced = "configmap,pod,deployment,replicaset,service,serviceaccount,event"
    objects = site.kubectl("get", namespaced, "--namespace", name, "--output=json")
    assert '"kind": "Deployment"' in objects
    assert secrets_in(objects, desk.secrets) == set()
    helm = [programs.find_in_environment("helm"), "get", "all", "inference"]
    kept = site.run([*helm, "--namespace", name, "--kubeconfig", site.kubeconfig]).stdout
    assert "USER-SUPPLIED VALUES" in kept
    assert secrets_in(kept, desk.secrets) == set()
    values = site.kubectl("get", "secret", "pods", "--namespace", name, "--output=json")
    assert "key of pods" in secrets_in(values, desk.secrets)  # the look itself was awake
