"""What we write, read by the tools that are on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.archive.bundle import Entry, write_bundle
from bundler.archive.checkpoint import SourceFile, write_checkpoint
from bundler.archive.oci import read_layout, write_oci_archive
from bundler.archive.tar import END, header, padding
from bundler.digest import Digest
from bundler.manifest import Bundle, Checkpoint
from bundler.reference import ImageTag
from tests.layouts import LayoutMaker, make_layout

MTIME = 1_793_491_200
TAG = ImageTag("atlas", "1.0.0")
Need = Callable[[str], str]
FILES = {
    "config.json": b"{}",
    "empty": b"",
    "model.safetensors": os.urandom(3_000_000),
    "tokenizer/merges.txt": b"a b\n" * 1000,
    "tokenizer/naïve ☃.txt": b"snow",
    f"{'deep/' * 40}{'n' * 90}": b"ustar holds this name",
    f"{'d' * 120}/{'n' * 120}": b"ustar cannot hold this name",
}


def run(*argv: object, cwd: Path | None = None) -> str:
    env = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return subprocess.run(
        list(map(str, argv)), cwd=cwd, env=env, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Checkpoint]:
    found = []
    for path, content in FILES.items():
        real = tmp_path / "sources" / path
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(content)
        found.append(SourceFile(path, real))
    out = tmp_path / "tiny_1.tar"
    return out, write_checkpoint(
        out, name="tiny_1", root="tiny", sources=found, mtime=MTIME, expected=None
    )


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, Bundle]:
    entries = [
        Entry("README.md", b"# read me\n"),
        Entry("scripts/upload_images.sh", b"#!/bin/bash\n", executable=True),
        *(Entry(f"charts/{path}", content) for path, content in FILES.items()),
    ]
    out = tmp_path / "demo-1.tar.gz"
    return out, write_bundle(out, root="demo-1", entries=entries, mtime=MTIME)


def files_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_gnu_tar_extracts_the_files_of_a_checkpoint(
    checkpoint: tuple[Path, Checkpoint], tmp_path: Path, need: Need
) -> None:
    (tmp_path / "out").mkdir()
    run(need("tar"), "--strip-components=1", "-xpf", checkpoint[0], "-C", tmp_path / "out")
    assert files_below(tmp_path / "out") == FILES
    for path in (tmp_path / "out").rglob("*"):
        status = path.stat()
        assert status.st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644)
        assert (status.st_mtime, status.st_uid) == (MTIME, 0)


def test_gnu_tar_and_python_list_what_the_manifest_lists(
    checkpoint: tuple[Path, Checkpoint], need: Need
) -> None:
    out, made = checkpoint
    lines = run(need("tar"), "--numeric-owner", "--quoting-style=literal", "-tvRf", out)
    listed = {}
    for line in lines.splitlines():
        block, rest = line.removeprefix("block ").split(": ", 1)
        if "** " in rest:
            continue  # GNU tar notes the two blocks at the end
        mode, owner, size, _, _, name = rest.split(maxsplit=5)
        listed[name] = (mode, owner, int(size), int(block))
    files = {name: entry for name, entry in listed.items() if not name.endswith("/")}
    assert {name: size for name, (_, _, size, _) in files.items()} == {
        f"tiny/{file.path}": file.size for file in made.files
    }
    assert {mode for mode, *_ in files.values()} == {"-rw-r--r--"}
    assert {owner for _, owner, *_ in listed.values()} == {"0/0"}
    assert list(files) == [f"tiny/{file.path}" for file in made.files]
    with tarfile.open(out) as theirs:
        assert {info.name: info.offset_data for info in theirs if info.isfile()} == {
            f"tiny/{file.path}": file.offset for file in made.files
        }


def test_gnu_tar_and_python_step_over_a_file_beyond_8_gib(tmp_path: Path, need: Need) -> None:
    size, archive = 8**11 + 5, tmp_path / "large.tar"
    with archive.open("wb") as file:
        file.write(header("model.safetensors", size=size, mtime=MTIME))
        file.seek(size + len(padding(size)), os.SEEK_CUR)
        file.write(header("z", size=1, mtime=MTIME) + b"z" + padding(1) + END)
    assert run(need("tar"), "-tf", archive).splitlines() == ["model.safetensors", "z"]
    assert run("tar", "-xOf", archive, "z") == "z"
    with tarfile.open(archive) as theirs:
        assert [info.size for info in theirs] == [size, 1]


def test_sha256sum_agrees_with_the_manifest_on_archive_and_members(
    checkpoint: tuple[Path, Checkpoint], need: Need
) -> None:
    out, made = checkpoint
    assert run(need("sha256sum"), out).split()[0] == made.digest.hex
    for file in made.files:
        cut = f"tail -c +{file.offset + 1} '{out}' | head -c {file.size} | sha256sum"
        assert run("bash", "-c", cut).split()[0] == file.digest.hex


def test_gzip_and_tar_read_a_bundle_and_sha256sum_checks_it(
    bundle: tuple[Path, Bundle], tmp_path: Path, need: Need
) -> None:
    out, made = bundle
    run(need("gzip"), "-t", out)
    compressed, plain, *_ = run("gzip", "-l", out).splitlines()[1].split()
    assert int(compressed) == made.size
    assert int(compressed) - int(plain) < 1000 + int(plain) // 5000
    run(need("tar"), "-xzf", out, "-C", tmp_path)
    root = tmp_path / "demo-1"
    checked = run(need("sha256sum"), "--strict", "-c", "CONTENTS.sha256", cwd=root)
    assert len(checked.splitlines()) == len(made.files) - 1
    assert all(line.endswith(": OK") for line in checked.splitlines())
    assert {path: Digest.of(content) for path, content in files_below(root).items()} == {
        file.path: file.digest for file in made.files
    }
    assert os.access(root / "scripts" / "upload_images.sh", os.X_OK)
    assert (root / "README.md").stat().st_mode & 0o777 == 0o644


def test_sha256sum_names_a_file_that_changed_after_extraction(
    bundle: tuple[Path, Bundle], tmp_path: Path, need: Need
) -> None:
    run(need("tar"), "-xzf", bundle[0], "-C", tmp_path)
    (tmp_path / "demo-1" / "README.md").write_text("other")
    done = subprocess.run(
        [need("sha256sum"), "--quiet", "-c", "CONTENTS.sha256"],
        cwd=tmp_path / "demo-1",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "README.md: FAILED\n"


def packed_image(tmp_path: Path) -> tuple[Path, str]:
    digest = make_layout(tmp_path / "layout", {"etc/motd": b"hello from the image\n"})
    out = tmp_path / "atlas__1.0.0.tar"
    write_oci_archive(tmp_path / "layout", read_layout(tmp_path / "layout"), TAG, out, mtime=MTIME)
    return out, digest


def test_skopeo_reads_an_oci_archive_and_keeps_its_digest(tmp_path: Path, need: Need) -> None:
    skopeo = need("skopeo")
    archive, digest = packed_image(tmp_path)
    seen = json.loads(run(skopeo, "inspect", f"oci-archive:{archive}"))
    assert (seen["Digest"], seen["Os"], seen["Architecture"]) == (digest, "linux", "amd64")
    copied = tmp_path / "copied"
    run(skopeo, "copy", "--preserve-digests", f"oci-archive:{archive}:1.0.0", f"oci:{copied}:x")
    assert str(read_layout(copied).digest) == digest
    assert read_layout(copied).blobs == read_layout(tmp_path / "layout").blobs


def test_skopeo_copies_every_platform_of_an_oci_archive(tmp_path: Path, need: Need) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    layer = maker.layer({"a": b"1"})
    images = []
    for machine in ("amd64", "arm64"):
        image = maker.manifest([layer], maker.config(architecture=machine))
        images.append({**image, "platform": {"os": "linux", "architecture": machine}})
    index = maker.index(images)
    maker.name(index)
    archive = tmp_path / "atlas__1.0.0.tar"
    write_oci_archive(maker.directory, read_layout(maker.directory), TAG, archive, mtime=MTIME)
    copied = tmp_path / "copied"
    source = f"oci-archive:{archive}"
    run(need("skopeo"), "copy", "--all", "--preserve-digests", source, f"oci:{copied}:x")
    assert str(read_layout(copied).digest) == index["digest"]
    assert read_layout(copied).platforms == ("linux/amd64", "linux/arm64")


def test_skopeo_s_own_layout_makes_the_same_archive(tmp_path: Path, need: Need) -> None:
    archive, _ = packed_image(tmp_path)
    copied, again = tmp_path / "copied", tmp_path / "again.tar"
    run(need("skopeo"), "copy", "--preserve-digests", f"oci-archive:{archive}", f"oci:{copied}:y")
    write_oci_archive(copied, read_layout(copied), TAG, again, mtime=MTIME)
    assert again.read_bytes() == archive.read_bytes()


def test_umoci_unpacks_an_oci_archive(tmp_path: Path, need: Need) -> None:
    umoci = need("umoci")
    archive, _ = packed_image(tmp_path)
    layout = tmp_path / "extracted"
    layout.mkdir()
    run(need("tar"), "-xf", archive, "-C", layout)
    assert run(umoci, "ls", "--layout", layout).split() == ["1.0.0"]
    run(umoci, "unpack", "--rootless", "--image", f"{layout}:1.0.0", tmp_path / "runtime")
    assert (tmp_path / "runtime/rootfs/etc/motd").read_bytes() == b"hello from the image\n"
