"""Presets change the lines that they are told to change, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.build.presets import KeyPath, preset
from bundler.errors import MalformedError
from bundler.yamltext import read_yaml

VALUES = b"""\
# What to serve.
image:
  registry: ""
  name: "atlas"   # of the server
  tag: ""
other:
  image:
    name: docs
    tag:
    list: [tag, name]
"""
CHART = Path(__file__).parents[2] / "charts" / "inference"


def test_only_the_named_lines_change() -> None:
    texts: dict[KeyPath, str] = {
        ("image", "name"): "forge",
        ("image", "tag"): "1.0",
        ("other", "image", "name"): "d",
        ("other", "image", "tag"): "yes",
    }
    assert (
        preset(VALUES, texts, name="v")
        == b"""\
# What to serve.
image:
  registry: ""
  name: "forge"   # of the server
  tag: "1.0"
other:
  image:
    name: "d"
    tag: "yes"
    list: [tag, name]
"""
    )


def test_presetting_again_changes_nothing() -> None:
    texts: dict[KeyPath, str] = {("image", "name"): "forge", ("image", "tag"): "1.0"}
    once = preset(VALUES, texts, name="v")
    assert preset(once, texts, name="v") == once


@given(st.text(st.characters(codec="ascii", min_codepoint=32), max_size=60))
def test_any_plain_text_arrives_as_it_is(text: str) -> None:
    result = preset(VALUES, {("image", "tag"): text}, name="v")
    value = read_yaml(result, name="v").value
    assert isinstance(value, dict)
    assert value["image"] == {"registry": "", "name": "atlas", "tag": text}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"image: {tag: x}\n", "expected one line"),
        (b"image:\n  tag: >\n    folded\n", "expected one line"),
        (b"image:\n  tag: [x]\n", "expected one line"),
        (b"image:\n  tag: {x: z}\n", "expected one line"),
        (b"image:\n  tag: a\n    b\n", "not YAML as we read it"),
        (b"image:\n  tag:\n    deep: x\n", "not YAML as we read it"),
        (b"image:\n  name: x\n", "image.tag: missing"),
        (b"image:\n  tag: x\n  tag: y\n", "twice"),
        (b"image:\n  tag: &a x\n", "anchors"),
    ],
)
def test_what_is_no_plain_line_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(problem)):
        preset(content, {("image", "tag"): "1"}, name="v")


def test_the_chart_of_this_project_can_be_preset() -> None:
    texts: dict[KeyPath, str] = {
        (*place, key): f"{key}-of-{place[0]}"
        for place in (("image",), ("downloader", "image"), ("docs", "image"))
        for key in ("name", "tag")
    }
    content = (CHART / "values.yaml").read_bytes()
    result = preset(content, texts, name="values.yaml")
    changed = [
        (old, new)
        for old, new in zip(content.splitlines(), result.splitlines(), strict=True)
        if old != new
    ]
    assert len(changed) == len(texts)
