from __future__ import annotations

from collections.abc import Callable

import pytest

from bundler.document import Document, Table, kind_of, utc_time
from bundler.errors import MalformedError


def table(value: object) -> Table:
    positions = {(): (1, 1), ("size",): (3, 7), ("models", 0): (5, 3), ("models", 0, "key"): (5, 8)}
    return Document("spec.yaml", value, positions).table()


def number(text: str) -> int:
    return int(text)


@pytest.mark.parametrize("text", ["2026-11-01T00:00:00Z", "1970-01-01T23:59:59Z"])
def test_a_time_is_utc_seconds(text: str) -> None:
    assert utc_time(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-01",
        "2026-11-01T00:00:00",
        "2026-11-01T00:00:00+00:00",
        "2026-11-01 00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-32T00:00:00Z",
        "2026-11-01T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-01T00:60:00Z",
        "2026-11-01T00:00:00.5Z",
        "2026-11-01T00:00:00Z\n",
        "٢٠٢٦-11-01T00:00:00Z",
    ],
)
def test_a_time_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        utc_time(text)


def test_fields_are_read_by_their_type() -> None:
    fields = table(
        {
            "name": "x",
            "size": 5,
            "on": False,
            "list": ["1", "2"],
            "models": [{"key": "a"}],
            "by": {"b": {"n": 1}},
            "free": {"x": {"y": 1}},
            "nothing": None,
        }
    )
    assert fields.text("name") == "x"
    assert fields.text("absent", "default") == "default"
    assert fields.integer("size", 1, 5) == 5
    assert fields.integer("absent", 1, 5, 3) == 3
    assert fields.flag("on") is False
    assert fields.flag("absent", True) is True
    assert fields.texts("list") == ("1", "2")
    assert fields.parse_all("list", number) == (1, 2)
    assert fields.parse("absent", number, "7") == 7
    assert fields.parse_optional("absent", number) is None
    assert fields.choice("name", ("x", "y")) == "x"
    assert [one.text("key") for one in fields.tables("models")] == ["a"]
    assert [(key, one.integer("n", 0, 9)) for key, one in fields.named_tables("by", str)] == [
        ("b", 1)
    ]
    assert fields.plain("free") == {"x": {"y": 1}}
    assert fields.tables("absent") == []
    assert fields.texts("absent") == ()
    assert fields.plain("absent") == {}
    assert "nothing" not in fields
    assert "name" in fields
    fields.close()


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda t: t.text("size"), "spec.yaml:3:7: size: expected a text, got an integer"),
        (lambda t: t.text("absent"), "spec.yaml:1:1: absent: missing"),
        (lambda t: t.text("nothing"), "nothing: missing"),
        (lambda t: t.text("empty"), "empty: must not be empty"),
        (lambda t: t.text("long"), "long: expected at most 4096 characters, got 4097"),
        (lambda t: t.integer("name", 0, 9), "name: expected an integer, got a text"),
        (lambda t: t.integer("on", 0, 9), "on: expected an integer, got true or false"),
        (lambda t: t.integer("size", 6, 9), "size: expected 6 to 9, got 5"),
        (lambda t: t.integer("size", 1, 4), "size: expected 1 to 4, got 5"),
        (lambda t: t.flag("size"), "size: expected true or false, got an integer"),
        (lambda t: t.flag("absent"), "absent: missing"),
        (lambda t: t.choice("name", ("a", "b")), "name: expected one of a, b, got 'x'"),
        (lambda t: t.parse("name", number), "name: invalid literal"),
        (lambda t: t.parse_all("texts", number), "texts: invalid literal"),
        (lambda t: t.texts("size"), "size: expected a list, got an integer"),
        (lambda t: t.texts("mixed"), r"mixed\[1\]: expected a text, got an integer"),
        (lambda t: t.tables("texts"), r"texts\[0\]: expected a mapping, got a text"),
        (lambda t: t.table("size"), "spec.yaml:3:7: size: expected a mapping, got an integer"),
        (lambda t: t.table("absent").text("x"), "absent.x: missing"),
        (lambda t: t.plain("texts"), "texts: expected a mapping, got a list"),
        (lambda t: t.named_tables("by", number), "by.k: invalid literal"),
        (
            lambda t: t.tables("models")[0].text("other"),
            r"spec.yaml:5:3: models\[0\].other: missing",
        ),
        (
            lambda t: t.tables("models")[0].integer("key", 0, 1),
            r"spec.yaml:5:8: models\[0\].key: expected an integer",
        ),
    ],
)
def test_a_field_that_breaks_its_rule_is_told_with_its_place(
    read: Callable[[Table], object], complaint: str
) -> None:
    fields = table(
        {
            "name": "x",
            "size": 5,
            "on": True,
            "empty": "",
            "long": "x" * 4097,
            "texts": ["x"],
            "mixed": ["x", 5],
            "models": [{"key": "a"}],
            "by": {"k": {}},
            "nothing": None,
        }
    )
    with pytest.raises(MalformedError, match=complaint) as caught:
        read(fields)
    assert str(caught.value).startswith("spec.yaml:")


def test_a_number_where_text_is_due_gets_a_hint() -> None:
    with pytest.raises(MalformedError) as caught:
        table({"version": 2026}).text("version")
    assert caught.value.hint == 'write "2026" in quotes'


@pytest.mark.parametrize(
    ("value", "hint"),
    [({"nmae": 1, "name": "x"}, "did you mean 'name'?"), ({"zzz": 1}, "known here: name")],
)
def test_a_field_that_nobody_asked_for_is_refused(value: dict[str, object], hint: str) -> None:
    fields = table(value)
    fields.text("name", "")
    with pytest.raises(MalformedError, match=": unknown field") as caught:
        fields.close()
    assert caught.value.hint == hint


@pytest.mark.parametrize("value", [[], "x", 1, None])
def test_a_document_that_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(MalformedError, match=f"expected a mapping, got {kind_of(value)}"):
        table(value)


def test_what_a_file_says_cannot_break_the_line() -> None:
    with pytest.raises(MalformedError, match=r"spec\.yaml:1:1: a\\u000ab: unknown field$"):
        table({"a\nb": 1}).close()
