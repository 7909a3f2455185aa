from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest, tree_digest

HEX = hashlib.sha256(b"abc").hexdigest()


@given(st.binary())
def test_a_digest_survives_each_of_its_forms(content: bytes) -> None:
    digest = Digest.of(content)
    assert digest.hex == hashlib.sha256(content).hexdigest()
    assert Digest.parse(str(digest)) == digest
    assert Digest(digest.raw.hex()) == digest
    assert base64.b64decode(digest.base64) == hashlib.sha256(content).digest()
    assert digest.hex.startswith(digest.id16)
    assert len(digest.id16) == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"sha512:{HEX}{HEX}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256: {HEX[1:]}",
        f"SHA256:{HEX}",
        f"sha256:sha256:{HEX}",
        "sha256:../../../../etc/passwd",
        f"sha256:{HEX[:-1]}٣",
    ],
)
def test_text_that_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a sha256 digest|not 64 lowercase hex digits"):
        Digest.parse(text)


def test_digests_are_sorted_by_their_digits() -> None:
    digests = [Digest("b" * 64), Digest("0" * 64), Digest("a" * 64)]
    assert [digest.hex[0] for digest in sorted(digests)] == ["0", "a", "b"]


FILES = [("b", 1, Digest.of(b"1")), ("a/c", 2, Digest.of(b"22")), ("a-c", 0, Digest.of(b""))]


def test_the_identity_of_a_tree_is_fixed() -> None:
    lines = f"{Digest.of(b'').hex} 0 a-c\n{Digest.of(b'22').hex} 2 a/c\n{Digest.of(b'1').hex} 1 b\n"
    assert tree_digest(FILES) == Digest.of(lines.encode())
    assert tree_digest(reversed(FILES)) == tree_digest(FILES)
    assert tree_digest([]) == Digest.of(b"")


@pytest.mark.parametrize(
    "changed", [("c", 1, FILES[0][2]), ("b", 2, FILES[0][2]), ("b", 1, FILES[1][2])]
)
def test_name_size_and_content_all_make_the_identity(changed: tuple[str, int, Digest]) -> None:
    assert tree_digest([changed, *FILES[1:]]) != tree_digest(FILES)


def test_paths_are_sorted_by_their_bytes() -> None:
    digest = Digest.of(b"")
    lines = f"{digest.hex} 0 Z\n{digest.hex} 0 a\n{digest.hex} 0 é\n{digest.hex} 0 😀\n"
    files = [(path, 0, digest) for path in ("😀", "é", "a", "Z")]
    assert tree_digest(files) == Digest.of(lines.encode())
