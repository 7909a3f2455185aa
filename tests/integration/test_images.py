"""The images that scripts/build-images makes: reproducible, small, run as a cluster runs them."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import BundleError
from tests.conftest import missing
from tests.rehearsal.registry import registry as start_registry

ROOT = Path(__file__).parents[2]
SITE = ROOT / "containers" / "public-docs" / "site"
BUILD = ROOT / "scripts" / "build-images"
PROGRAMS = ("buildah", "skopeo", "unshare", "nsenter", "chroot", "ip", "curl")
# Neither the user of the image nor root: a cluster may choose any.
ANY_USER = 12345
LARGEST_BYTES = {
    "atlas": 25 * 2**20,
    "model-downloader": 30 * 2**20,
    "public-docs": 3 * 2**20,
}
ENTRYPOINTS = {
    "atlas": ["python3", "-m", "atlas"],
    "model-downloader": ["python3", "-m", "bundler"],
    "public-docs": ["serve"],
}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image.

    Attributes:
        archive: The OCI archive.
        digest: What build-images printed.
        manifest: The image's manifest.
        config: Its configuration.
        layers: Files of its layers, the lowest first.
    """

    archive: Path
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[Path, ...]


def build_images(*arguments: str, cache: str | None = None) -> dict[str, str]:
    """Run the script and give what it printed: name:tag to digest."""
    environment = dict(os.environ) | ({"XDG_CACHE_HOME": cache} if cache else {})
    done = subprocess.run(
        [BUILD, *arguments], env=environment, stdout=subprocess.PIPE, text=True, timeout=500
    )
    assert done.returncode == 0
    return dict(line.split(" ") for line in done.stdout.splitlines())


def open_image(archive: Path, digest: str, scratch: Path) -> Image:
    layout = scratch / archive.stem
    with tarfile.open(archive) as tar:
        tar.extractall(layout, filter="data")

    def blob(of: str) -> Path:
        path = layout / "blobs" / of.replace(":", "/")
        assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == of
        return path

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["digest"] == digest
    manifest = json.loads(blob(digest).read_text())
    config = json.loads(blob(manifest["config"]["digest"]).read_text())
    layers = tuple(blob(layer["digest"]) for layer in manifest["layers"])
    return Image(archive, digest, manifest, config, layers)


@pytest.fixture(scope="module")
def built(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """Give all images by their names, with the tag t1."""
    for program in PROGRAMS:
        need(program)
    if os.geteuid():
        missing("root")
    output = tmp_path_factory.mktemp("images")
    digests = build_images("--tag", "t1", f"--output={output}")
    return {
        name.removesuffix(":t1"): open_image(
            output / f"{name.replace(':', '__')}.tar", digest, tmp_path_factory.mktemp("layout")
        )
        for name, digest in digests.items()
    }


@pytest.fixture(scope="module")
def rootfs(built: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give the unpacked root file system of each image."""
    folders = {name: tmp_path_factory.mktemp(name) for name in built}
    for name, image in built.items():
        folders[name].chmod(0o755)
        for layer in image.layers:
            subprocess.run(["tar", "-xzf", layer, "-C", folders[name]], check=True)
    return folders


@dataclass(frozen=True, slots=True)
class Container:
    process: subprocess.Popen[bytes]

    @property
    def first_process(self) -> str:
        """Process 1 of the container, by its number outside."""
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]

    def get(self, port: int, path: str) -> tuple[int, str, str]:
        """Ask for a path; give status, type and body."""
        url = f"http://127.0.0.1:{port}{path}"
        flags = ["--silent", "--path-as-is", "--write-out", "\n%{http_code} %{content_type}"]
        inside = ["nsenter", "--net", "--target", self.first_process]
        done = subprocess.run(
            [*inside, "curl", *flags, url], capture_output=True, text=True, check=False
        )
        body, _, last = done.stdout.rpartition("\n")
        status, _, content_type = last.partition(" ")
        return int(status), content_type, body

    def wait_for(self, port: int, path: str) -> None:
        """Wait until a path answers 200."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self.process.poll() is None
            with contextlib.suppress(IndexError):
                if self.get(port, path)[0] == 200:
                    return
            time.sleep(0.05)
        pytest.fail(f"{path} did not answer")

    def terminate(self) -> float:
        """Send SIGTERM to process 1 and give how many seconds it took to end."""
        started = time.monotonic()
        os.kill(int(self.first_process), signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - started


def sandbox(image: Image, root: Path, *arguments: str, volume: Path | None = None) -> list[str]:
    """Give the command that runs an image as a cluster would.

    It is process 1, of a user that nobody knows, on a read-only root file system, in a network of
    its own, with the volume at /models.
    """
    mounts = [f"mount --bind {root} {root}", f"mount -o remount,bind,ro {root}"]
    mounts.append(f"mount --bind /dev {root}/dev")
    if volume:
        (root / "models").mkdir(exist_ok=True)
        mounts.append(f"mount --bind {volume} {root}/models")
    chroot = f"{shutil.which('chroot')} --userspec={ANY_USER}:{ANY_USER} {root}"
    settings = image.config["config"]
    command = " ".join([*settings["Env"], chroot, *settings["Entrypoint"], *arguments])
    script = "\n".join([*mounts, "ip link set lo up", f"exec env -i {command}"])
    isolation = ["--mount", "--net", "--pid", "--fork", "--kill-child=KILL"]
    return ["unshare", *isolation, "sh", "-euc", script]


@contextlib.contextmanager
def running(argv: list[str], log: Path) -> Iterator[Container]:
    with log.open("wb") as sink:
        process = subprocess.Popen(argv, stdout=sink, stderr=sink)
    try:
        yield Container(process)
    finally:
        process.kill()
        process.wait()


def run(image: Image, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = sandbox(image, root, *arguments)
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_each_image_is_oci_non_root_small_and_without_a_clock(built: dict[str, Image]) -> None:
    assert built.keys() == ENTRYPOINTS.keys()
    for name, image in built.items():
        assert image.manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert all(".oci." in layer["mediaType"] for layer in image.manifest["layers"])
        assert image.config["config"]["User"] == "10003:10003"
        assert image.config["config"]["Entrypoint"] == ENTRYPOINTS[name]
        assert image.config["created"] == "1970-01-01T00:00:00Z"
        assert image.archive.stat().st_size < LARGEST_BYTES[name]


def test_images_of_one_base_share_its_layer(built: dict[str, Image]) -> None:
    python = {built[name].layers[0].name for name in ("atlas", "model-downloader")}
    assert len(python) == 1
    assert built["public-docs"].layers[0].name not in python


def test_an_unchanged_image_is_not_built_again(
    built: dict[str, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for forbidden in ("dpkg-deb", "pip"):
        (programs / forbidden).write_text("#!/bin/sh\nexit 1\n")
        (programs / forbidden).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("BUILDAH_ISOLATION", "none such")
    digests = build_images("--tag", "t2", "--output", str(tmp_path))
    assert digests == {f"{name}:t2": image.digest for name, image in built.items()}


def test_built_elsewhere_an_image_has_the_same_bytes(
    built: dict[str, Image], tmp_path: Path
) -> None:
    mine = Path(os.environ["XDG_CACHE_HOME"]) / "bundle-images"
    other = tmp_path / "cache" / "bundle-images"
    other.mkdir(parents=True)
    for base in mine.glob("base-*"):
        shutil.copytree(base, other / base.name)
    build_images("--tag", "t1", "--output", str(tmp_path), cache=str(other.parent))
    for name, image in built.items():
        elsewhere = tmp_path / f"{name}__t1.tar"
        assert filecmp.cmp(elsewhere, image.archive, shallow=False), name


def test_a_killed_build_leaves_no_mount_and_the_next_one_tidies_up(
    built: dict[str, Image], tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "bundle-images"
    shutil.copytree(Path(os.environ["XDG_CACHE_HOME"]) / "bundle-images", cache)
    (docs,) = cache.glob("image-public-docs-*")
    shutil.rmtree(docs)
    environment = dict(os.environ) | {"XDG_CACHE_HOME": str(cache.parent)}
    script = subprocess.Popen([BUILD], env=environment, start_new_session=True)
    while not list(cache.glob("scratch.*/storage/*-containers/*/")):
        assert script.poll() is None
        time.sleep(0.01)
    os.killpg(script.pid, signal.SIGKILL)
    script.wait()
    assert str(cache) not in Path("/proc/mounts").read_text()
    digests = build_images("--tag", "t1", cache=str(cache.parent))
    assert digests == {f"{name}:t1": image.digest for name, image in built.items()}
    assert not list(cache.glob("scratch.*"))


def test_pushed_images_keep_their_digests(
    built: dict[str, Image], need: Callable[[str], str]
) -> None:
    need("docker-registry")
    with start_registry() as server:
        build_images("--tag=t1", f"--push={server.address}", "--tls-verify=false")
        for name, image in built.items():
            reference = f"docker://{server.address}/{name}:t1"
            raw = subprocess.run(
                ["skopeo", "inspect", "--raw", "--tls-verify=false", reference],
                capture_output=True,
                check=True,
            ).stdout
            assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == image.digest


@pytest.mark.parametrize(
    "arguments", [["--frobnicate"], ["--tag"], ["--tag", "a b"], ["--tls-verify=maybe"]]
)
def test_wrong_usage_of_the_script_builds_nothing(arguments: list[str]) -> None:
    done = subprocess.run([BUILD, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "build-images: error: " in done.stderr


def test_the_stand_in_serves_a_volume_as_any_user(
    built: dict[str, Image], rootfs: dict[str, Path], tmp_path: Path
) -> None:
    header = b'{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + b"data"
    (tmp_path / "model.safetensors").write_bytes(content)
    tmp_path.chmod(0o755)
    argv = sandbox(built["atlas"], rootfs["atlas"], "--model", "/models", volume=tmp_path)
    with running(argv, tmp_path / "log") as container:
        container.wait_for(8000, "/health")
        assert json.loads(container.get(8000, "/version")[2])["weights"]["bytes"] == 4
        assert container.terminate() < 5


def test_the_documentation_is_served_as_any_user(
    built: dict[str, Image], rootfs: dict[str, Path], tmp_path: Path
) -> None:
    argv = sandbox(built["public-docs"], rootfs["public-docs"])
    with running(argv, tmp_path / "log") as container:
        container.wait_for(8080, "/healthz")
        for page in ("/", *(f"/{path.name}" for path in SITE.glob("*.html"))):
            status, content_type, body = container.get(8080, page)
            assert (status, content_type) == (200, "text/html;charset=utf-8")
            assert body.startswith("<!DOCTYPE html>")
        assert container.get(8080, "/style.css")[1] == "text/css;charset=utf-8"
        assert container.get(8080, "/icon.svg")[1] == "image/svg+xml"
        status, _, body = container.get(8080, "/no-such-page")
        assert (status, "There is no such page" in body) == (404, True)
        for outside in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/cgi-bin/x"):
            assert container.get(8080, outside)[0] in (400, 403, 404)
        assert container.terminate() < 5


def test_the_downloader_is_this_checkouts_bundle(
    built: dict[str, Image], rootfs: dict[str, Path]
) -> None:
    image, root = built["model-downloader"], rootfs["model-downloader"]
    for path in (ROOT / "bundler").rglob("*.py"):
        inside = root / "opt" / "bundle" / path.relative_to(ROOT)
        assert inside.read_bytes() == path.read_bytes()
    done = run(image, root, "version")
    assert (done.returncode, done.stderr) == (0, "")
    done = run(image, root, "fetch", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--manifest-sha256" in done.stdout


def test_the_downloader_holds_what_it_needs_for_s3_and_sts(rootfs: dict[str, Path]) -> None:
    code = "import boto3\nfor s in 's3', 'sts': boto3.client(s, region_name='eu-west-1')"
    root = str(rootfs["model-downloader"])
    argv = [shutil.which("chroot") or "chroot", root, "python3", "-c", code]
    environment = {"PATH": "/usr/bin", "PYTHONPATH": "/opt/bundle"}
    subprocess.run(argv, env=environment, check=True, timeout=60)


def test_all_pages_have_the_same_list_of_pages_and_need_nothing_from_outside() -> None:
    pages = {path.name: path.read_text() for path in SITE.glob("*.html")}
    lists = set()
    for name, text in pages.items():
        navigation = re.search(r"<nav.*?</nav>", text, re.DOTALL)
        assert navigation is not None
        lists.add(re.sub(r' aria-current="page"|(?<=href=")/', "", navigation[0]))
        assert text.count('aria-current="page"') == (name != "404.html")
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            file, _, anchor = target.removeprefix("/").partition("#")
            assert (SITE / (file or name)).is_file(), (name, target)
            assert not anchor or f'id="{anchor}"' in (SITE / (file or name)).read_text()
        assert not re.search(r"<script|style=|@import|url\(", text)
    assert len(lists) == 1
    assert "url(" not in (SITE / "style.css").read_text()


def test_the_page_of_exit_statuses_knows_every_error() -> None:
    page = (SITE / "exit-statuses.html").read_text()
    errors = [BundleError]
    for error in errors:
        errors += error.__subclasses__()
        assert f'<th scope="row">{error.exit_status}</th>' in page
