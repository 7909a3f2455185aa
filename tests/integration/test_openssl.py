"""Nobody needs our tool: openssl and sha256sum judge our files, and we take openssl's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.errors import DeniedError, MalformedError
from bundler.release import open_release, signature_name
from bundler.sign import create_keys, sign_release
from bundler.signing.keys import PublicKey, read_private_key, read_public_key
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from tests.small_release import DATA, RELEASE, data_key

SHIPPED = data_key(DATA / "format-1")
Openssl = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "format-1" / RELEASE.directory, tmp_path / "release"))


@pytest.fixture
def openssl(need: Callable[[str], str]) -> Openssl:
    program = need("openssl")

    def run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        environment = os.environ | {"PASSPHRASE": "correct horse"}
        return subprocess.run([program, *words], check=check, capture_output=True, env=environment)

    return run


@pytest.fixture
def sha256sum(need: Callable[[str], str]) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    program = need("sha256sum")

    def run(directory: Path) -> subprocess.CompletedProcess[str]:
        argv = [program, "-c", "--strict", SUMS_NAME]
        return subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)

    return run


def check_by_hand(openssl: Openssl, release: Path, key: PublicKey, public: Path) -> int:
    """Run the very command of the operator's guide."""
    signature = release / signature_name(key.key8)
    sums = release / SUMS_NAME
    words = ("dgst", "-sha256", "-verify", public, "-signature", signature, sums)
    return openssl(*words, check=False).returncode


def test_openssl_and_sha256sum_accept_a_release(
    release: Path,
    openssl: Openssl,
    sha256sum: Callable[[Path], subprocess.CompletedProcess[str]],
) -> None:
    public = DATA / "format-1" / "release.pub"
    assert check_by_hand(openssl, release, SHIPPED, public) == 0
    done = sha256sum(release)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_openssl_and_sha256sum_refuse_what_we_refuse(
    release: Path,
    openssl: Openssl,
    sha256sum: Callable[[Path], subprocess.CompletedProcess[str]],
) -> None:
    archive = release / "tiny_2026.10.tar"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    done = sha256sum(release)
    assert done.returncode == 1
    assert "tiny_2026.10.tar: FAILED" in done.stdout
    sums = release / SUMS_NAME
    sums.write_bytes(sums.read_bytes().replace(b"0", b"1", 1))
    assert check_by_hand(openssl, release, SHIPPED, DATA / "format-1" / "release.pub") == 1


def test_keygen_and_sign_go_on_with_openssl(
    release: Path, tmp_path: Path, openssl: Openssl
) -> None:
    private, public = tmp_path / "release.key", tmp_path / "release.pub"
    key = create_keys(private, public, b"correct horse")
    opened = read_private_key(private.read_bytes(), b"correct horse", name="release.key")
    assert sign_release(release, opened).name == signature_name(key.key8)
    assert check_by_hand(openssl, release, key, public) == 0
    der = openssl("pkey", "-pubin", "-in", public, "-outform", "DER").stdout
    assert hashlib.sha256(der).hexdigest()[:8] == key.key8
    words = ("dgst", "-sha256", "-sign", private, "-passin", "env:PASSPHRASE")
    signature = openssl(*words, release / SUMS_NAME).stdout
    assert key.verify(signature, (release / SUMS_NAME).read_bytes())


def test_a_release_that_openssl_signed_is_trusted(
    release: Path, tmp_path: Path, openssl: Openssl
) -> None:
    """The way of a host with its own key store: it needs SHA256SUMS and nothing of ours."""
    private, public = tmp_path / "their.key", tmp_path / "their.pub"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    key = read_public_key(public.read_bytes(), name="their.pub")
    signature = release / signature_name(key.key8)
    openssl("dgst", "-sha256", "-sign", private, "-out", signature, release / SUMS_NAME)
    assert open_release(release, Trust.of_keys([key])).signatures == (key.key8,)
    assert read_private_key(private.read_bytes(), None, name="their.key").public == key


def test_keys_that_openssl_encrypted_open(tmp_path: Path, openssl: Openssl) -> None:
    private = tmp_path / "their.key"
    openssl(
        *("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-aes-256-cbc", "-pass", "env:PASSPHRASE", "-out", private),
    )
    assert read_private_key(private.read_bytes(), b"correct horse", name="k").public.key8
    with pytest.raises(DeniedError, match="does not open"):
        read_private_key(private.read_bytes(), b"battery staple", name="k")


@pytest.mark.parametrize(
    "kind",
    [
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
        ("-algorithm", "ED25519"),
        ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    ],
)
def test_keys_of_another_kind_are_refused(
    tmp_path: Path, openssl: Openssl, kind: tuple[str, ...]
) -> None:
    private, public = tmp_path / "their.key", tmp_path / "their.pub"
    openssl("genpkey", *kind, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    with pytest.raises(MalformedError, match=r"^their\.pub: "):
        read_public_key(public.read_bytes(), name="their.pub")
    with pytest.raises(MalformedError, match=r"^their\.key: "):
        read_private_key(private.read_bytes(), None, name="their.key")
