"""The guide in a bundle tells an operator the same as the commands do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bundler.build

GUIDE = (Path(bundler.build.__file__).parent / "operator_guide.md").read_text()


def test_the_vendors_key_has_one_name() -> None:
    assert set(re.findall(r"[\w.-]+\.pub\b", GUIDE)) == {"release.pub"}


@pytest.mark.parametrize(
    "words",
    [
        "--registry-user",
        "--registry-password-file",
        "--registry-password-stdin",
        "registry.authFile",
        "ecr: {}",
        "--verify read-back",
        "--volumes",
    ],
)
def test_what_an_operator_without_other_documents_needs_is_there(words: str) -> None:
    section = GUIDE.partition("## 2. Install with `bundle publish`")[2].partition("## 3.")[0]
    assert words in section
