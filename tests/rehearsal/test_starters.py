"""The servers on loopback: what they refuse, and that they end with their owner."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from types_boto3_s3 import S3Client

from bundler.oci_manifest import OCI_MANIFEST
from tests.layouts import make_layout
from tests.rehearsal import go_build, programs
from tests.rehearsal.aws import CREDENTIALS, aws
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.fixtures import need as need_to
from tests.rehearsal.go_programs import CRANE
from tests.rehearsal.registry import Kind, Registry, program, proxy, registry
from tests.rehearsal.s3 import S3
from tests.rehearsal.serving import running, scratch_state


def client(server: S3, secret: str = "") -> S3Client:
    return boto3.Session().client(
        "s3",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id=server.credentials.access_key,
        aws_secret_access_key=secret or server.credentials.secret_key,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def curl_status(*arguments: str | Path) -> str:
    curl: list[str | Path] = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *arguments]
    return subprocess.run(curl, capture_output=True, text=True, check=False).stdout


def test_a_registry_with_tls_and_login_lets_in_only_who_knows_both() -> None:
    need_to(lambda: programs.require(["docker-registry", "setpriv"]))
    with registry(tls=True, auth=True) as server:
        url = f"{server.url}/v2/"
        known = ["--cacert", server.ca_file or ""]
        assert curl_status(url) == "000"
        assert curl_status(*known, url) == "401"
        assert curl_status(*known, "-u", f"{server.username}:wrong", url) == "401"
        assert curl_status(*known, "-u", f"{server.username}:{server.password}", url) == "200"
        assert server.password not in repr(server)


@pytest.mark.parametrize("kind", ["debian", "distribution", "crane"])
def test_each_registry_takes_a_push_by_crane(kind: Kind, tmp_path: Path) -> None:
    crane = need_to(lambda: go_build.find(CRANE))
    need_to(lambda: program(kind))
    make_layout(tmp_path / "layout")
    with registry(kind) as server:
        name = f"{server.address}/some/image:1"
        argv: list[str | Path] = [crane, "push", "--insecure", tmp_path / "layout", name]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert said.startswith(f"{server.address}/some/image@sha256:")
        accept = ["-H", f"Accept: {OCI_MANIFEST}"]
        assert curl_status(*accept, f"{server.url}/v2/some/image/manifests/1") == "200"
        assert any(path.is_file() for path in server.storage.rglob("*"))


@pytest.mark.parametrize("kind", ["debian", "distribution"])
def test_a_registry_can_ask_for_a_client_certificate(kind: Kind) -> None:
    need_to(lambda: program(kind))
    with registry(kind, client_tls=True) as server:
        assert server.client is not None
        url, known = f"{server.url}/v2/", ["--cacert", server.ca_file or ""]
        shown: list[str | Path] = ["--cert", server.client.certificate]
        shown += ["--key", server.client.key]
        assert curl_status(*known, url) == "000"
        assert curl_status(*known, *shown, url) == "200"


def token(server: Registry, *arguments: str) -> str:
    """Ask a token server for a token to push; empty where it gives none."""
    assert server.tokens is not None
    scope = "scope=repository:here:pull,push"
    service = ["--data-urlencode", "service=rehearsal", "--data-urlencode", scope]
    curl = ["curl", "-s", "--cacert", str(server.ca_file), *service, *arguments]
    done = subprocess.run([*curl, server.tokens.realm], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    return str(document.get("token") or document.get("access_token") or "")


@pytest.mark.parametrize("kind", ["debian", "distribution"])
def test_a_token_opens_a_registry_where_and_as_long_as_it_says(kind: Kind) -> None:
    need_to(lambda: program(kind))
    with registry(kind, tls=True, auth="token") as server:
        assert server.tokens is not None
        begin, other = (f"{server.url}/v2/{name}/blobs/uploads/" for name in ("here", "there"))
        login = ["--get", "-u", f"{server.username}:{server.password}"]

        def start(url: str, given: str) -> str:
            bearer = ["-H", f"Authorization: Bearer {given}"]
            return curl_status("--cacert", server.ca_file or "", "-X", "POST", *bearer, url)

        assert token(server, "--get", "-u", f"{server.username}:wrong") == ""
        assert start(begin, token(server, *login)) == "202"
        assert start(other, token(server, *login)) == "401"
        oauth = ["-d", "grant_type=refresh_token", "-d", "client_id=test", "-d"]
        assert token(server, *oauth, "refresh_token=wrong") == ""
        refresh = f"refresh_token={server.tokens.identity_token}"
        assert start(begin, token(server, *oauth, refresh)) == "202"
        server.tokens.seconds = -1
        assert start(begin, token(server, *login)) == "401"
        server.tokens.seconds = 300
        server.tokens.refused.add("here")
        assert start(begin, token(server, *login)) == "401"
        assert [each.status for each in server.tokens.requests] == [
            401,
            200,
            200,
            401,
            200,
            200,
            200,
        ]
        assert server.tokens.identity_token not in repr(server)


def test_a_forward_proxy_leads_to_plain_and_tls_registries() -> None:
    need_to(lambda: program("debian"))
    with registry() as plain, registry(tls=True) as secure, proxy() as between:
        through = ["-x", between.url, "--noproxy", ""]
        assert curl_status(*through, f"{plain.url}/v2/") == "200"
        known = ["--cacert", secure.ca_file or ""]
        assert curl_status(*through, *known, f"{secure.url}/v2/") == "200"
        assert between.requests == [f"GET {plain.address}", f"CONNECT {secure.address}"]


def test_s3_refuses_wrong_checksums_secrets_and_buckets(s3: S3, s3_bucket: str) -> None:
    wrong = b64encode(hashlib.sha256(b"other").digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        client(s3).put_object(Bucket=s3_bucket, Key="key", Body=b"x", ChecksumSHA256=wrong)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(s3, "wrong").put_object(Bucket=s3_bucket, Key="key", Body=b"x")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client(s3).put_object(Bucket="absent", Key="key", Body=b"x")
    assert "Contents" not in client(s3).list_objects_v2(Bucket=s3_bucket)


def test_the_stand_in_for_aws_gives_a_registry_login() -> None:
    need_to(lambda: programs.find_in_environment("moto_server"))
    with aws() as server:
        ecr = boto3.Session().client(
            "ecr",
            endpoint_url=server.url,
            region_name=server.region,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        assert ecr.get_authorization_token()["authorizationData"]


def test_a_server_and_its_files_go_when_its_owner_is_killed() -> None:
    script = (
        "import time; from pathlib import Path; from tests.rehearsal.daemon import Daemon;"
        "from tests.rehearsal.serving import running, scratch_state\n"
        "with scratch_state('killed') as state:\n"
        "    argv = ['sleep', '1234.5']\n"
        "    with running([Daemon(name='sleep', argv=argv)], state):\n"
        "        print(state, flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=programs.ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        state = Path(owner.stdout.readline().strip())
        assert state.is_dir()
        owner.kill()
    wait_for(lambda: not state.exists())
    assert subprocess.run(["pgrep", "-f", "^sleep 1234.5$"], check=False).returncode == 1


def test_a_program_that_does_not_start_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broken = Daemon(name="broken", argv=["sh", "-c", "echo port taken; exit 3"])
    later = Daemon(name="later", argv=["sleep", "60"], after=["broken"], ready="tcp://127.0.0.1:1")
    slow = Daemon(name="slow", argv=["sleep", "60"], ready="tcp://127.0.0.1:1")
    with (
        scratch_state("broken") as state,
        pytest.raises(RehearsalError, match=r"broken: ended with status 3: port taken; log: "),
        running([slow, later, broken], state),
    ):
        pass
    [log] = tmp_path.glob("rehearsal-broken-*.log")
    assert log.read_text() == "port taken\n"
