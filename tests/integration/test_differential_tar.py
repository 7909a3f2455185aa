"""Our tar readers against GNU tar and bsdtar, on the files with which Go and CPython test theirs.

Whatever a reader of ours takes, it lists as they do: names, types, sizes, digests of the contents,
where links lead. All else it refuses; never is something silently missing. The tables say which
file is which, so that a change of either is seen.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bundler.errors import MalformedError
from tests import tar_readers
from tests.rehearsal import tar_samples
from tests.rehearsal.fixtures import need as need_to
from tests.tar_readers import Entry, agree, bsdtar, foreign, gnu_tar, layer, own
from tests.tars import tar_of

Need = Callable[[str], str]
Read = Callable[[Path], list[Entry]]
NONE, LAYER, BOTH = frozenset[str](), frozenset({"layer"}), frozenset({"foreign", "layer"})
READERS: Mapping[str, Read] = {"foreign": foreign, "layer": layer}
SOLARIS_CUT_OUT = "testtar.tar without Solaris's header"

# Who takes what. Of image layers more is read than of charts and saved images, as runtimes do it:
# sparse files, names that are no UTF-8, directories with a size, no blocks of zeros at the end.
TAKEN: Mapping[str, frozenset[str]] = {
    "file-and-dir.tar": BOTH,
    "gnu-incremental.tar": LAYER,
    "gnu-long-nul.tar": BOTH,
    "gnu-multi-hdrs.tar": NONE,  # two long names before one member
    "gnu-nil-sparse-data.tar": LAYER,
    "gnu-nil-sparse-hole.tar": LAYER,
    "gnu-not-utf8.tar": LAYER,
    "gnu-sparse-big.tar": LAYER,
    "gnu-utf8.tar": BOTH,
    "gnu.tar": BOTH,
    "hardlink.tar": BOTH,
    "hdr-only.tar": LAYER,
    "invalid-go17.tar": NONE,  # only Go takes what stands in the place of times for a front
    "issue10968.tar": NONE,  # no archives, found by fuzzing
    "issue11169.tar": NONE,
    "issue12435.tar": NONE,
    "neg-size.tar": NONE,
    "nil-uid.tar": LAYER,
    "pax-bad-hdr-file.tar": NONE,
    "pax-bad-hdr-large.tar.bz2": NONE,  # an extended header of more than 1 MiB
    "pax-bad-mtime-file.tar": LAYER,
    "pax-global-records.tar": LAYER,
    "pax-multi-hdrs.tar": NONE,
    "pax-nil-sparse-data.tar": LAYER,
    "pax-nil-sparse-hole.tar": LAYER,
    "pax-nul-path.tar": NONE,  # readers cut the name at the NUL, or refuse it
    "pax-nul-xattrs.tar": NONE,
    "pax-path-hdr.tar": NONE,  # ends behind an extended header
    "pax-pos-size-file.tar": NONE,  # a size of 24 digits, most of them zeros
    "pax-records.tar": BOTH,
    "pax-sparse-big.tar": LAYER,
    "pax.tar": BOTH,
    "recursion.tar": NONE,
    "sparse-formats.tar": LAYER,
    "star.tar": BOTH,
    "testtar.tar": NONE,  # has an extended header of Solaris's, which few readers know
    "testtar.tar.xz": BOTH,
    "trailing-slash.tar": BOTH,
    "ustar-file-devs.tar": BOTH,
    "ustar-file-reg.tar": LAYER,
    "ustar.tar": BOTH,
    "v7.tar": BOTH,
    "writer-big-long.tar": NONE,  # 16 GiB of which only the header is there
    "writer-big.tar": NONE,
    "writer.tar": BOTH,
    "xattrs.tar": BOTH,
    SOLARIS_CUT_OUT: LAYER,
}
# Where one of the two says something else, or nothing, and we side with the other.
APART: Mapping[str, str] = {
    "hdr-only.tar": "gnu tar",  # wants the data that links and directories say to have
    "nil-uid.tar": "bsdtar",  # takes the size that follows cameras' firmware, not the header's
    "pax-global-records.tar": "gnu tar",  # lets a global header name members; runtimes do not
    SOLARIS_CUT_OUT: "bsdtar",  # complains of names that are no UTF-8
}
# Compared without what is in them: gigabytes of holes, and holes that GNU tar cannot pass on.
WITHOUT_CONTENTS = frozenset(
    {"gnu-incremental.tar", "gnu-sparse-big.tar", "pax-sparse-big.tar", "sparse-formats.tar"}
)
FILES = {
    "config.json": b"{}",
    "empty": b"",
    "model.safetensors": bytes(range(256)) * 5000,
    "tokenizer/merges.txt": b"a b\n" * 1000,
    f"{'deep/' * 40}{'n' * 90}": b"ustar holds this name",
    f"{'d' * 120}/{'n' * 120}": b"ustar cannot hold this name",
    "naïve ☃.txt": b"snow",
}


@pytest.fixture(autouse=True)
def others(need: Need) -> None:
    need("tar")
    need("bsdtar")


def sample(name: str, directory: Path) -> Path:
    """Give one of the files, decompressed."""
    samples = need_to(tar_samples.find)
    content = (samples / name.partition(" ")[0]).read_bytes()
    if name.endswith(".bz2"):
        content = bz2.decompress(content)
    if name.endswith(".xz"):
        content = lzma.decompress(content)
    if name == SOLARIS_CUT_OUT:
        content = without_type(content, b"X")
    path = directory / "sample.tar"
    path.write_bytes(content)
    return path


def without_type(content: bytes, kind: bytes) -> bytes:
    """Cut out the one member of a type, with its data."""
    blocks = range(0, len(content), 512)
    [at] = [
        n
        for n in blocks
        if content[n + 156 : n + 157] == kind and content[n + 257 :][:5] == b"ustar"
    ]
    size = int(content[at + 124 : at + 135], 8)
    return content[:at] + content[at + 512 + size + -size % 512 :]


def test_the_table_names_every_file() -> None:
    assert sorted(TAKEN) == sorted([*tar_samples.names(), SOLARIS_CUT_OUT])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", TAKEN)
def test_a_file_is_listed_as_others_list_it_or_refused(
    tmp_path: Path, name: str, reader: str
) -> None:
    path = sample(name, tmp_path)
    if reader not in TAKEN[name]:
        with pytest.raises(ValueError, match=r"\w"):
            READERS[reader](path)
        return
    ours = READERS[reader](path)
    contents = name not in WITHOUT_CONTENTS
    theirs = {
        "gnu tar": gnu_tar(path, contents=contents),
        "bsdtar": bsdtar(path, contents=contents),
    }
    alike = {who for who, listed in theirs.items() if listed is not None and agree(ours, listed)}
    assert alike == theirs.keys() - {APART.get(name)}, (ours, theirs)


@pytest.mark.parametrize("name", TAKEN)
def test_the_reader_of_our_dialect_takes_no_other(tmp_path: Path, name: str) -> None:
    with pytest.raises(MalformedError):
        own(sample(name, tmp_path))


def test_what_we_write_is_listed_alike_by_all(tmp_path: Path) -> None:
    path = tmp_path / "ours.tar"
    path.write_bytes(tar_of(FILES))
    ours = own(path)
    assert {one.path.decode() for one in ours if one.kind == "file"} == set(FILES)
    for read in (gnu_tar, bsdtar, foreign, layer):
        listed = read(path)
        assert listed is not None
        assert agree(ours, listed), (read, ours, listed)


@pytest.mark.parametrize("reader", ["gnu_tar", "bsdtar"])
def test_a_member_less_or_another_one_is_no_agreement(tmp_path: Path, reader: str) -> None:
    """The comparison itself: one member less, other bytes, another name or type is seen."""
    path, other = tmp_path / "ours.tar", tmp_path / "other.tar"
    path.write_bytes(tar_of(FILES))
    ours = own(path)
    for files in (
        {key: FILES[key] for key in list(FILES)[1:]},
        FILES | {"config.json": b"[]"},
        FILES | {"config.json": b"{} "},
        {("other" if key == "empty" else key): FILES[key] for key in FILES},
        {("empty/x" if key == "empty" else key): FILES[key] for key in FILES},
    ):
        other.write_bytes(tar_of(files))
        listed = getattr(tar_readers, reader)(other)
        assert listed is not None
        assert not agree(ours, listed)
