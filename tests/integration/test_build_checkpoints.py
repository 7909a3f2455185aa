"""What a build refuses of checkpoints: what runs code, is incomplete, or is no plain file."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.build.checkpoint import CheckpointSource, read_checkpoint
from bundler.errors import MalformedError, NotFoundError
from bundler.events import Event, Noted, ignore
from bundler.spec import Allowance, CheckpointSpec
from tests.integration.release_inputs import safetensors, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_model(tmp_path / "sharded", shards=3)


def read(directory: Path, *allow: Allowance) -> tuple[CheckpointSource, list[str]]:
    events: list[Event] = []
    spec = CheckpointSpec(name="test_1", root="test", source=directory.name, allow=allow)
    source = read_checkpoint(spec, directory.parent, events.append)
    return source, [event.text for event in events if isinstance(event, Noted)]


def paths(source: CheckpointSource) -> list[str]:
    return [file.path for file in source.files]


def zip_bytes() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return out.getvalue()


def test_a_checkpoint_keeps_its_directories(model: Path) -> None:
    source, notes = read(model)
    assert paths(source) == ["config.json", "model.safetensors", "tokenizer/tokenizer.json"]
    assert notes == []
    assert source.archive_bytes > source.content_bytes > 5000


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("pytorch_model.bin", b"x", "pickle"),
        ("model.PT", b"x", "pickle"),
        ("a/b.ckpt", b"x", "pickle"),
        ("x.npy", b"x", "pickle"),
        ("x.joblib", b"x", "pickle"),
        ("x.h5", b"x", "Keras"),
        ("x.7z", b"x", "archive"),
        ("model.tar", b"x", "archive"),
        ("modeling.py", b"x", "program"),
        (".hidden", b"x", "hidden file"),
        (".secrets/key.json", b"x", "hidden file"),
        *((f"p{n}.json", pickle.dumps({}, protocol=n), "pickle") for n in range(2, 6)),
        ("zip.txt", zip_bytes(), "zip archive"),
        ("numpy.model", b"\x93NUMPY\x01\x00", "pickle"),
        ("hdf.json", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("gzip.json", b"\x1f\x8b\x08\x00", "archive"),
        ("elf.txt", b"\x7fELF\x02\x01", "program"),
    ],
)
def test_what_could_run_code_comes_in_only_by_name_and_reason(
    name: str, content: bytes, kind: str, model: Path
) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(content)
    with pytest.raises(MalformedError, match=f"{name}: expected no {kind}") as caught:
        read(model)
    assert "allow" in (caught.value.hint or "")
    source, notes = read(model, Allowance(path=name, reason="the tokenizer reads it"))
    assert name in paths(source)
    assert any("allowed: the tokenizer reads it" in note for note in notes)


def test_all_that_could_run_code_is_named_at_once(model: Path) -> None:
    for name in (".hid", "a.pkl", "b.sh"):
        (model / name).write_bytes(b"x")
    with pytest.raises(MalformedError) as caught:
        read(model, Allowance(path="b.sh", reason="not run"))
    first, second = str(caught.value).splitlines()
    assert ".hid: expected no hidden file" in first
    assert "a.pkl: expected no pickle" in second


def test_allowing_what_is_not_there_is_refused(model: Path) -> None:
    with pytest.raises(MalformedError, match=r"allows 'old\.bin', which is not there"):
        read(model, Allowance(path="old.bin", reason="x"))


def test_a_safetensors_length_is_not_taken_for_a_pickle(model: Path) -> None:
    header = b'{"__metadata__": {"pad": "%s"}}'
    text = header % (b"x" * (0x0480 - len(header) + 2))
    assert struct.pack("<Q", len(text))[:2] == b"\x80\x04"
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    read(model)


def test_leftovers_of_version_control_are_left_out_and_named(model: Path) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("x")
    (model / ".cache").mkdir()
    (model / "tokenizer" / ".DS_Store").write_text("x")
    (model / ".gitattributes").write_text("x")
    source, notes = read(model)
    assert len(paths(source)) == 3
    assert len(notes) == 4
    assert all("left out" in note for note in notes)


def test_a_file_that_servers_may_not_know_is_noted(model: Path) -> None:
    (model / "strange.xyz").write_text("x")
    source, notes = read(model)
    assert "strange.xyz" in paths(source)
    assert any("strange.xyz" in note for note in notes)


def test_the_links_of_a_hub_cache_are_followed(model: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in ("config.json", "model.safetensors"):
        shutil.copy(model / path, blobs / f"blob-of-{path}")
        (snapshot / path).symlink_to(f"../../blobs/blob-of-{path}")
    source, _ = read(snapshot)
    assert paths(source) == ["config.json", "model.safetensors"]
    assert source.content_bytes == sum(path.stat().st_size for path in blobs.iterdir())


def test_a_link_to_a_directory_is_refused(model: Path) -> None:
    (model / "loop").symlink_to(".")
    with pytest.raises(MalformedError, match="loop: expected a file, got a link to a directory"):
        read(model)


def test_a_link_to_nothing_is_refused(model: Path) -> None:
    (model / "gone.json").symlink_to("nowhere")
    with pytest.raises(NotFoundError, match=r"gone\.json: a link to something that is not there"):
        read(model)


def test_a_device_is_refused(model: Path) -> None:
    (model / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(MalformedError, match="got a device"):
        read(model)


def test_names_that_fold_into_one_are_refused(model: Path) -> None:
    (model / "Config.json").write_text("{}")
    with pytest.raises(MalformedError, match=r"'config\.json' stands there 2 times"):
        read(model)


def test_a_name_with_a_control_character_is_refused_and_not_printed(model: Path) -> None:
    (model / "a\x1b[2J.json").write_text("{}")
    with pytest.raises(MalformedError, match="control character") as caught:
        read(model)
    assert "\x1b" not in str(caught.value)


def shorten_weights(directory: Path) -> None:
    path = directory / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def remove_shard(directory: Path) -> None:
    (directory / "model-00002-of-00003.safetensors").unlink()


def remove_index(directory: Path) -> None:
    (directory / "model.safetensors.index.json").unlink()


def wrong_tensor(directory: Path) -> None:
    path = directory / "model-00002-of-00003.safetensors"
    path.write_bytes(safetensors({"other": b"x" * 1666}))


def foreign_shard(directory: Path) -> None:
    (directory / "model-00004-of-00004.safetensors").write_bytes(safetensors({"t": b"x"}))


def climbing_index(directory: Path) -> None:
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"layer.0": "../model.safetensors"}}))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (shorten_weights, "model-00002-of-00003.safetensors"),
        (remove_shard, "model-00002-of-00003.safetensors"),
        (remove_index, "expected an index that names this shard"),
        (wrong_tensor, "layer.1"),
        (foreign_shard, "model-00004-of-00004.safetensors: expected an index"),
        (climbing_index, "climbs"),
    ],
)
def test_weights_that_do_not_add_up_are_refused(
    change: Callable[[Path], None], named: str, sharded: Path
) -> None:
    read(sharded)
    change(sharded)
    with pytest.raises(MalformedError, match=named):
        read(sharded)


@pytest.mark.parametrize(
    ("missing", "named"),
    [("model.safetensors", r"expected \*\.safetensors"), ("config.json", r"config\.yaml")],
)
def test_weights_and_configuration_have_to_lie_at_the_top(
    missing: str, named: str, model: Path
) -> None:
    (model / missing).rename(model / "tokenizer" / missing)
    with pytest.raises(MalformedError, match=named):
        read(model)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="nowhere: expected a directory"):
        read_checkpoint(CheckpointSpec(name="t", root="t", source="nowhere"), tmp_path, ignore)
