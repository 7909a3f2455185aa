"""A release that lies in a bucket: verified, described and unpacked where it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bundler.archive.volumes import open_place
from bundler.describe import describe_path
from bundler.errors import (
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    UntrustedError,
    WorldError,
)
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from bundler.parts import MIB
from bundler.release import TrustedRelease, open_release, signature_name
from bundler.remote_object import RemoteObject
from bundler.sums import SUMS_NAME
from bundler.verify import Report, verify_path
from tests.integration.released_in_s3 import Copied, copy_to
from tests.integration.s3_proxy import Answer, Call, Pass, Proxy, proxy, refusal
from tests.publishable import Recipe, make_publishable
from tests.rehearsal.s3 import S3
from tests.small_release import noise

NOW = "2026-11-20T12:00:00Z"
WEIGHTS = noise(MIB, 3) * 66
RECIPE = Recipe(
    checkpoints={"big_1": {"config.json": b"{}\n", "model.safetensors": WEIGHTS}},
    models={"big": "big_1"},
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    """Give a release with a file of two parts."""
    return make_publishable(tmp_path_factory.mktemp("release") / "demo", RECIPE)


@pytest.fixture(autouse=True)
def credentials(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)


@pytest.fixture(scope="module")
def original(s3: S3, release: TrustedRelease) -> Copied:
    return copy_to(s3, release.directory)


@pytest.fixture
def copied(original: Copied) -> Copied:
    """Give a copy that a test may change."""
    return original.again()


@pytest.fixture
def between(s3: S3) -> Iterator[Proxy]:
    with proxy(s3) as running:
        yield running


def verified(copied: Copied, release: TrustedRelease, **how: bool | str) -> Report:
    return verify_path(copied.files(), release.trust, now=NOW, **how)  # type: ignore[arg-type]


def test_a_release_in_a_bucket_is_verified_whole(copied: Copied, release: TrustedRelease) -> None:
    report = verified(copied, release, strict=True, require_all=True)
    assert report
    assert report.kind == "release"
    assert report.path == f"{copied.where}/"
    assert {item.name: item.size for item in report.checked} == {
        name: size for name, (size, _) in release.manifest.archives.items()
    }


def test_what_is_wrong_is_named_by_file_part_and_offset(
    copied: Copied, release: TrustedRelease
) -> None:
    [checkpoint] = release.manifest.checkpoints
    [weights] = [file for file in checkpoint.files if len(file.parts) > 1]
    copied.flip(checkpoint.archive, weights.offset + 65 * MIB)
    copied.flip(release.manifest.bundle.archive, 20_000)
    faults = verified(copied, release).faults
    [part] = [fault for fault in faults if fault.archive == checkpoint.archive]
    assert (part.path, part.part, part.offset) == (weights.path, 2, weights.offset + 64 * MIB)
    assert part.expected == str(weights.parts[1])
    assert any(fault.archive == release.manifest.bundle.archive for fault in faults)
    only = verified(copied, release, only=f"{checkpoint.archive}/config.json")
    assert only
    assert verified(copied, release, quick=True)


def test_what_is_absent_cut_or_not_signed_is_told(copied: Copied, release: TrustedRelease) -> None:
    [checkpoint] = release.manifest.checkpoints
    copied.delete(checkpoint.archive)
    copied.put("notes.txt", b"mine")
    report = verified(copied, release)
    assert report
    assert report.absent == (checkpoint.archive,)
    assert report.extra == ("notes.txt",)
    assert not verified(copied, release, strict=True)
    assert not verified(copied, release, require_all=True)
    whole = (release.directory / checkpoint.archive).read_bytes()
    copied.put(checkpoint.archive, whole[:-1024])
    [fault] = verified(copied, release).faults
    assert (fault.expected, fault.got) == (f"{len(whole)} bytes", f"{len(whole) - 1024} bytes")
    copied.delete(release.manifest.bundle.archive)
    assert [fault.got for fault in verified(copied, release, only="demo-2026.11.1").faults] == [
        "nothing"
    ]


def test_volumes_in_a_bucket_are_refused_by_name(copied: Copied, release: TrustedRelease) -> None:
    [checkpoint] = release.manifest.checkpoints
    copied.delete(checkpoint.archive)
    copied.put(f"{checkpoint.archive}.001-of-002", b"1")
    copied.put(f"{checkpoint.archive}.002-of-002", b"2")
    with pytest.raises(MalformedError, match="expected one object, got 2 volumes") as caught:
        verified(copied, release)
    assert "read from directories" in str(caught.value.hint)


def test_small_files_are_judged_as_those_of_a_directory(
    copied: Copied, release: TrustedRelease
) -> None:
    signature = signature_name(release.signers[0].key8)
    assert open_release(copied.files(), release.trust).manifest == release.manifest
    copied.put(MANIFEST_NAME, release.manifest_bytes + b" ")
    with pytest.raises(ContentError, match=MANIFEST_NAME):
        open_release(copied.files(), release.trust)
    copied.put(SUMS_NAME, release.sums_bytes + b"\n")
    with pytest.raises(UntrustedError, match="got none that holds"):
        open_release(copied.files(), release.trust)
    copied.put(signature, bytes(2000))
    with pytest.raises(MalformedError, match="expected at most 1024 bytes, got 2000"):
        open_release(copied.files(), release.trust)
    copied.delete(signature)
    with pytest.raises(UntrustedError, match="got no signature"):
        open_release(copied.files(), release.trust)
    copied.delete(SUMS_NAME)
    with pytest.raises(NotFoundError, match=f"there is no {SUMS_NAME} in it"):
        open_release(copied.files(), release.trust)


def test_a_small_file_that_is_too_large_is_not_downloaded(
    copied: Copied, release: TrustedRelease, between: Proxy
) -> None:
    copied.put(MANIFEST_NAME, bytes(MAX_MANIFEST_BYTES + 1))
    with pytest.raises(MalformedError, match=f"expected at most {MAX_MANIFEST_BYTES} bytes"):
        open_release(copied.files(between.url), release.trust)
    assert not any(call.path.endswith(MANIFEST_NAME) for call in between.calls)


def test_inspect_says_what_lies_there(copied: Copied, release: TrustedRelease) -> None:
    [checkpoint] = release.manifest.checkpoints
    copied.delete(checkpoint.archive)
    description = describe_path(copied.files(), release.trust)
    assert description.manifest == release.manifest
    assert description.present == {release.manifest.bundle.archive}
    assert describe_path(copied.files()).signatures == ()


def test_an_archive_that_is_replaced_while_it_is_read_is_told(
    copied: Copied, release: TrustedRelease
) -> None:
    files = copied.files()
    [checkpoint] = release.manifest.checkpoints
    whole = (release.directory / checkpoint.archive).read_bytes()
    copied.put(checkpoint.archive, whole[:-1] + b"?")
    with pytest.raises(WorldError, match="changed while it was read"):
        verify_path(files, release.trust, now=NOW)


def test_a_range_is_one_download_that_goes_on_where_it_broke(
    copied: Copied, release: TrustedRelease, between: Proxy
) -> None:
    """The connection breaks after 3 MiB of every answer; nothing is downloaded twice."""

    def cut(call: Call, ask: Pass) -> Answer:
        answer = ask()
        if call.operation == "GetObject" and len(answer.body) > 3 * MIB:
            return Answer(answer.status, answer.headers, answer.body, cut=3 * MIB)
        return answer

    [checkpoint] = release.manifest.checkpoints
    found = open_release(copied.files(between.url), release.trust).place(checkpoint.archive)
    assert isinstance(found, RemoteObject)
    between.calls.clear()
    [weights] = [file for file in checkpoint.files if len(file.parts) > 1]
    with open_place(found) as reader:
        assert b"".join(map(bytes, reader.pieces(weights.offset, 8 * MIB))) == WEIGHTS[: 8 * MIB]
        assert between.operations() == ["GetObject"]
        between.fault = cut
        between.calls.clear()
        assert b"".join(map(bytes, reader.pieces(weights.offset, 8 * MIB))) == WEIGHTS[: 8 * MIB]
    starts = [call.headers["Range"].partition("=")[2].partition("-")[0] for call in between.calls]
    assert [int(start) - weights.offset for start in starts] == [0, 3 * MIB, 6 * MIB]
    assert {call.headers["If-Match"] for call in between.calls} == {found.etag}


def test_headers_of_an_archive_cost_few_requests(
    copied: Copied, release: TrustedRelease, between: Proxy
) -> None:
    report = verify_path(
        copied.files(between.url), release.trust, now=NOW, quick=True, only="big_1"
    )
    assert report
    # The listing, three small files, and the pages that hold the headers.
    assert len(between.calls) <= 8


def test_a_refusal_names_the_permission(
    copied: Copied, release: TrustedRelease, between: Proxy
) -> None:
    def deny(what: str) -> None:
        between.fault = lambda call, ask: (
            refusal(403, "AccessDenied") if what in {call.operation, call.path[-4:]} else ask()
        )

    deny("ListObjectsV2")
    with pytest.raises(DeniedError, match="s3:ListBucket"):
        copied.files(between.url)
    deny(".tar")
    with pytest.raises(DeniedError, match="s3:GetObject"):
        verify_path(copied.files(between.url), release.trust, now=NOW)


@pytest.mark.parametrize(
    ("code", "option"),
    [("PermanentRedirect", "--source-region"), ("NoSuchBucket", "--source-endpoint")],
)
def test_hints_name_the_options_of_the_source(
    copied: Copied, between: Proxy, code: str, option: str
) -> None:
    between.fault = lambda _call, _ask: refusal(404, code)
    with pytest.raises(WorldError) as caught:
        copied.files(between.url)
    assert option in str(caught.value.hint)


def test_what_needs_a_directory_says_so(copied: Copied, release: TrustedRelease) -> None:
    opened = open_release(copied.files(), release.trust)
    with pytest.raises(MalformedError, match="expected a directory, got a place in a bucket"):
        _ = opened.directory
