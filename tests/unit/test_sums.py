from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.reference import folded
from bundler.sums import MAX_SUMS_BYTES, read_release_sums, read_sums, write_sums

HEX = "a" * 64
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,12}", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=3).map(Digest.of), min_size=1, max_size=8))
def test_what_is_written_is_read_back(sums: dict[str, Digest]) -> None:
    if len({folded(name) for name in sums}) < len(sums):
        return
    content = write_sums(sums)
    assert read_release_sums(content) == sums
    names = [line[66:] for line in content.splitlines()]
    assert names == sorted(name.encode() for name in sums)


def test_the_lines_are_those_of_sha256sum() -> None:
    sums = {"b": Digest(HEX), "a/é": Digest("0" * 64)}
    assert write_sums(sums) == f"{'0' * 64}  a/é\n{HEX}  b\n".encode()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "expected at least one line"),
        (f"{HEX}  a".encode(), ":1: expected"),
        (f"{HEX}  a\r\n".encode(), ":1: "),
        (f"{HEX} *a\n".encode(), ":1: expected"),
        (f"{HEX} a\n".encode(), ":1: expected"),
        (f"\\{HEX}  a\\nb\n".encode(), ":1: expected"),
        (f"{HEX.upper()}  a\n".encode(), ":1: expected"),
        (f"{HEX[:32]}  a\n".encode(), ":1: expected"),
        (f"{HEX}  \n".encode(), ":1: expected"),
        (f"{HEX}  a\n\n".encode(), ":2: expected"),
        (f"{HEX}  a\n# comment\n".encode(), ":2: expected"),
        (f"{HEX}  a\n{HEX}  a\n".encode(), ":2: a stands there twice"),
        (f"{HEX}  A\n{HEX}  a\n".encode(), ":2: a stands there twice"),
        (f"{HEX}  b\n{HEX}  a\n".encode(), "not sorted"),
        (f"{HEX}  ../a\n".encode(), ":1: path is absolute, climbs"),
        (f"{HEX}  /a\n".encode(), ":1: path is absolute, climbs"),
        (f"{HEX}  a\\b\n".encode(), "backslash"),
        (f"{HEX}  ".encode() + b"\xff\n", "not sorted"),
        (f"{HEX}  e\u0301\n".encode(), "normal form C"),
        (f"{HEX}  a\u2028{HEX}  b\n".encode(), ":1: expected"),
        (b"x" * (MAX_SUMS_BYTES + 1), "expected at most"),
    ],
)
def test_lines_of_another_form_are_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint) as caught:
        read_sums(content, name="SUMS")
    assert str(caught.value).startswith("SUMS")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["a/b", ".hidden", "a__b", "-rf", "a b", "é"])
def test_a_releases_files_have_plain_names(path: str) -> None:
    content = write_sums({path: Digest(HEX)})
    assert read_sums(content, name="SUMS") == {path: Digest(HEX)}
    with pytest.raises(MalformedError, match="SHA256SUMS: not a file name of ours"):
        read_release_sums(content)
