"""The front that stands for Amazon ECR has the quirks that it promises, whoever the client is."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import boto3
import pytest

from tests.rehearsal import programs
from tests.rehearsal.addresses import REGION
from tests.rehearsal.aws import CREDENTIALS, Aws, aws
from tests.rehearsal.ecr_front import EcrFront, Quirks, Template, ecr_front
from tests.rehearsal.fixtures import need
from tests.rehearsal.registry import Registry, program, registry

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def behind() -> Iterator[Registry]:
    need(lambda: program("debian"))
    with registry() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[Aws]:
    need(lambda: programs.find_in_environment("moto_server"))
    with aws() as running:
        yield running


class Client:
    """A client without manners of its own: each request is written out by the test."""

    def __init__(self, front: EcrFront) -> None:
        self.front = front
        self.api = boto3.Session().client(
            "ecr",
            region_name=REGION,
            endpoint_url=front.url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self.login()

    def login(self) -> None:
        [data] = self.api.get_authorization_token()["authorizationData"]
        self.headers = {"Authorization": f"Basic {data['authorizationToken']}"}

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(path)
        connection = HTTPConnection(parts.netloc or self.front.address)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers={**self.headers, **named})
        response = connection.getresponse()
        found = response.status, dict(response.getheaders()), response.read()
        connection.close()
        return found

    def start(self, name: str = "atlas") -> str:
        status, headers, _ = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202
        return headers["Location"]

    def push(self, content: bytes, name: str = "atlas") -> str:
        digest = digest_of(content)
        location = self.start(name)
        assert self.ask("PUT", f"{location}?digest={digest}", content)[0] == 201
        return digest

    def push_image(
        self, tag: str, name: str = "atlas", text: bytes = b"layer"
    ) -> tuple[int, bytes]:
        config, layer = self.push(b"{}", name), self.push(text, name)
        content = manifest_of(config, layer)
        status, _, body = self.ask(
            "PUT", f"/v2/{name}/manifests/{tag}", content, Content_Type=MANIFEST_TYPE
        )
        return status, body


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(config: str, layer: str) -> bytes:
    described = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}
    about = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE}
    return json.dumps({**document, "config": about, "layers": [described]}).encode()


def error_of(body: bytes) -> tuple[str, str]:
    [error] = json.loads(body)["errors"]
    return error["code"], error["message"]


@pytest.fixture
def client(behind: Registry, moto: Aws) -> Iterator[Client]:
    quirks = Quirks(min_part=1000, max_parts=3, max_layer=5000, max_manifest=2000)
    with ecr_front(behind.url, moto.url, quirks=quirks) as front:
        made = Client(front)
        for name in ("atlas", "docs"):
            made.api.create_repository(repositoryName=name)
        yield made
        for name in ("atlas", "docs"):
            made.api.delete_repository(repositoryName=name, force=True)


def test_nobody_gets_in_without_a_login(client: Client) -> None:
    client.headers = {}
    status, headers, _ = client.ask("GET", "/v2/")
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Basic realm=")
    client.headers = {"Authorization": f"Basic {base64.b64encode(b'AWS:wrong').decode()}"}
    assert client.ask("GET", "/v2/")[0] == 401


def test_an_expired_login_is_a_403_until_there_is_a_new_one(client: Client) -> None:
    client.front.quirks.login_requests = 2
    client.login()
    assert [client.ask("GET", "/v2/")[0] for _ in range(3)] == [200, 200, 403]
    code, message = error_of(client.ask("GET", "/v2/")[2])
    assert (code, message.split(".")[0]) == ("DENIED", "Your authorization token has expired")
    client.login()
    assert client.ask("GET", "/v2/")[0] == 200


def test_a_repository_must_be_there(client: Client) -> None:
    for method, path in (
        ("POST", "/v2/nowhere/blobs/uploads/"),
        ("GET", "/v2/nowhere/manifests/1"),
        ("PUT", "/v2/nowhere/manifests/1"),
    ):
        status, _, body = client.ask(method, path)
        assert (status, error_of(body)[0]) == (404, "NAME_UNKNOWN")


def test_a_template_makes_a_repository_on_push_alone(behind: Registry, moto: Aws) -> None:
    templates = (Template("team"), Template("ROOT", ("REPLICATION",)))
    with ecr_front(behind.url, moto.url, templates=templates) as front:
        client = Client(front)
        assert client.ask("GET", "/v2/team/atlas/manifests/1")[0] == 404
        assert client.ask("POST", "/v2/other/blobs/uploads/")[0] == 404
        client.start("team/atlas")
        client.api.delete_repository(repositoryName="team/atlas")


def test_chunks_are_answered_201_with_a_range_that_stays_behind(client: Client) -> None:
    location = client.start()
    content = bytes(1000) + bytes(1500) + b"end"
    for start, end in ((0, 1000), (1000, 2500)):
        status, headers, _ = client.ask(
            "PATCH", location, content[start:end], Content_Range=f"{start}-{end - 1}"
        )
        assert (status, headers["Range"], headers["Location"]) == (201, "0-999", location)
    assert client.ask("GET", location)[1]["Range"] == "0-999"
    digest = digest_of(content)
    assert (
        client.ask("PUT", f"{location}?digest={digest}", b"end", Content_Range="2500-2502")[0]
        == 201
    )
    status, headers, _ = client.ask("HEAD", f"/v2/atlas/blobs/{digest}")
    assert (status, headers["Content-Length"]) == (200, "2503")


def test_a_session_that_starts_again_is_refused(client: Client) -> None:
    location = client.start()
    assert client.ask("PATCH", location, bytes(1500))[0] == 201
    status, _, body = client.ask("PUT", f"{location}?digest={digest_of(b'x')}", b"x")
    assert status == 416
    text = "First byte of the layer part is 0 instead of 1500"
    assert error_of(body) == ("BLOB_UPLOAD_INVALID", text)


def test_what_came_before_a_request_broke_off_counts(client: Client) -> None:
    location = client.start()
    connection = HTTPConnection(client.front.address)
    connection.putrequest("PUT", f"{urlsplit(location).path}?digest={digest_of(bytes(4000))}")
    connection.putheader("Authorization", client.headers["Authorization"])
    connection.putheader("Content-Length", "4000")
    connection.endheaders(bytes(3000))
    connection.close()
    deadline = time.monotonic() + 10
    while not any(each.received == 3000 for each in client.front.sessions.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status, _, body = client.ask("PUT", f"{location}?digest={digest_of(bytes(4000))}", bytes(4000))
    assert status == 416
    assert error_of(body)[1].endswith("0 instead of 3000")


def test_a_small_chunk_may_only_be_the_last(client: Client) -> None:
    location = client.start()
    assert client.ask("PATCH", location, bytes(999))[0] == 201
    status, _, body = client.ask("PATCH", location, bytes(1000), Content_Range="999-1998")
    assert status == 400
    assert "at least 5MB" in error_of(body)[1]
    digest = digest_of(bytes(999))
    assert client.ask("PUT", f"{location}?digest={digest}")[0] == 201


def test_parts_and_layers_have_limits(client: Client) -> None:
    location = client.start()
    for n in range(3):
        chunk = f"{n * 1000}-{n * 1000 + 999}"
        assert client.ask("PATCH", location, bytes(1000), Content_Range=chunk)[0] == 201
    status, _, body = client.ask("PATCH", location, bytes(1000), Content_Range="3000-3999")
    assert (status, error_of(body)[0]) == (400, "SIZE_INVALID")
    digest = digest_of(bytes(5001))
    assert client.ask("PUT", f"{client.start()}?digest={digest}", bytes(5001))[0] == 400


def test_wrong_bytes_are_refused_in_ecrs_words(client: Client) -> None:
    status, _, body = client.ask("PUT", f"{client.start()}?digest={digest_of(b'a')}", b"b")
    text = "None of the provided layer digests match the calculated layer digest"
    assert (status, error_of(body)) == (400, ("BLOB_UPLOAD_INVALID", text))


def test_a_manifest_has_no_location_and_a_limit(client: Client) -> None:
    config, layer = client.push(b"{}"), client.push(b"layer")
    content = manifest_of(config, layer)
    status, headers, _ = client.ask(
        "PUT", "/v2/atlas/manifests/1", content, Content_Type=MANIFEST_TYPE
    )
    assert status == 201
    assert "Location" not in headers
    assert headers["Docker-Content-Digest"] == digest_of(content)
    long = content + b" " * 2000
    assert client.ask("PUT", "/v2/atlas/manifests/2", long, Content_Type=MANIFEST_TYPE)[0] == 400


def test_an_immutable_tag_is_refused_even_for_the_same_image(client: Client) -> None:
    client.api.create_repository(repositoryName="fixed", imageTagMutability="IMMUTABLE")
    try:
        assert client.push_image("1", "fixed")[0] == 201
        status, body = client.push_image("1", "fixed")
        assert (status, error_of(body)[0]) == (400, "TAG_INVALID")
        assert client.push_image("2", "fixed")[0] == 201
    finally:
        client.api.delete_repository(repositoryName="fixed", force=True)


def test_only_what_a_manifest_names_is_mounted_and_only_if_switched_on(client: Client) -> None:
    digest = client.push(b"shared")
    path = f"/v2/docs/blobs/uploads/?mount={digest}&from=atlas"
    assert client.ask("POST", path)[0] == 202
    client.front.quirks.mounting = True
    assert client.ask("POST", path)[0] == 202
    assert client.push_image("mounted", "atlas", b"share")[0] == 201
    named = digest_of(b"share")
    status, _, _ = client.ask("POST", f"/v2/docs/blobs/uploads/?mount={named}&from=atlas")
    assert status == 201
    client.front.quirks.mounting = False
    status, _, _ = client.ask("POST", f"/v2/docs/blobs/uploads/?mount={named}&from=atlas")
    assert status == 202


def test_a_blob_is_served_from_elsewhere_to_who_shows_no_login(client: Client) -> None:
    digest = client.push(b"served")
    status, headers, _ = client.ask("GET", f"/v2/atlas/blobs/{digest}")
    assert status == 307
    assert client.ask("GET", headers["Location"])[0] == 400
    client.headers = {}
    assert client.ask("GET", headers["Location"])[::2] == (200, b"served")


@pytest.mark.parametrize("after", [None, "1"])
def test_too_many_requests_are_refused_for_a_while(client: Client, after: str | None) -> None:
    client.front.throttle(2, retry_after=after)
    found = [client.ask("GET", "/v2/") for _ in range(3)]
    assert [each[0] for each in found] == [429, 429, 200]
    assert found[0][1].get("Retry-After") == after
