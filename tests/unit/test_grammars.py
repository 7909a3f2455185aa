"""Texts made by the grammars that they are read by: all are taken, and come back as they were."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundler.archive.tar import END, header, padding, walk
from bundler.digest import Digest
from bundler.image_reference import is_complete, is_tagged, parse_reference
from bundler.reference import S3Prefix, folded, relative_path

MTIME = 1_793_491_200
# Source: github.com/distribution/reference, its grammar in reference.go.
LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?"
HOSTS = st.from_regex(rf"({LABEL}(\.{LABEL}){{1,2}}|localhost)(:[0-9]{{1,5}})?", fullmatch=True)
FOLDERS = st.lists(
    st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True),
    min_size=1,
    max_size=3,
)
TAGS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGESTS = st.binary(max_size=4).map(Digest.of)
NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" ", exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).map(lambda text: unicodedata.normalize("NFC", text))
PATHS = (
    st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=6)
    .map("/".join)
    .filter(lambda path: len(path.encode()) <= 500)
)
# What no path may have: a place where it is cut or reordered, or a name that climbs.
EVIL = st.sampled_from(
    ["\0", "\n", "\x1b[2J", "\u202e", "\u200b", "\u2028", "\u00a0", "\ud800", "\\", "/../", "//"]
)


@given(HOSTS, FOLDERS, TAGS, st.none() | DIGESTS)
def test_a_reference_comes_back(
    host: str, folders: list[str], tag: str | None, digest: Digest | None
) -> None:
    assume(host not in {"docker.io", "index.docker.io"})
    repository = "/".join([host, *folders])
    text = repository + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = parse_reference(text)
    assert (found.repository, found.digest) == (repository, digest)
    assert found.tag == tag or (found.tag == "latest" and not tag and not digest)
    again = parse_reference(str(found).removeprefix("docker://"))
    assert again == found
    assert is_tagged(text) or not is_complete(text)


@given(HOSTS, FOLDERS, st.sampled_from([" ", "\n", "\0", "//", "/../", "@", "?", "#", "\u0430"]))
def test_a_reference_with_anything_else_in_it_is_refused(
    host: str, folders: list[str], other: str
) -> None:
    for text in (
        f"{host}{other}/a:1",
        f"{host}/{'/'.join(folders)}{other}:1",
        f"{host}/a:1{other}",
    ):
        with pytest.raises(ValueError, match=r"^not "):
            parse_reference(text)


@given(DIGESTS, st.integers(0, 70), st.characters(exclude_characters="0123456789abcdef"))
def test_a_digest_with_another_character_in_it_is_refused(
    digest: Digest, place: int, other: str
) -> None:
    text = str(digest)
    assert Digest.parse(text) == digest
    for changed in (text[:place] + other + text[place:], text[:place] + other + text[place + 1 :]):
        assume(changed != text)
        with pytest.raises(ValueError, match=r"not a sha256 digest|not 64 lowercase hex digits"):
            Digest.parse(changed)


@given(PATHS)
def test_a_path_comes_back_from_a_tar_and_a_bucket(path: str) -> None:
    assert relative_path(path) == path
    assert folded(folded(path)) == folded(path)
    member = header("top", mtime=MTIME, directory=True)
    parts = ["top", *path.split("/")]
    for count in range(2, len(parts)):
        member += header("/".join(parts[:count]), mtime=MTIME, directory=True)
    archive = member + header(f"top/{path}", size=1, mtime=MTIME) + b"x" + padding(1) + END
    *_, last = walk(lambda at, size: archive[at : at + size], len(archive), name="a")
    assert (last.path, archive[last.offset : last.offset + last.size]) == (f"top/{path}", b"x")
    place = S3Prefix("models", path)
    assert S3Prefix.parse(str(place)) == place
    assert place.key("a") == f"{path}/a"


@given(PATHS, EVIL, st.data())
def test_a_path_with_evil_in_it_is_refused(path: str, evil: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(path)))
    with pytest.raises(ValueError, match=r"^path "):
        relative_path(path[:place] + evil + path[place:])
