"""Archives of charts: strange ones are refused before anything acts on them."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from bundler.charts import archive as chart_archive
from bundler.charts.archive import read_chart_archive
from bundler.errors import MalformedError

ABOUT = b"apiVersion: v2\nname: some\nversion: 1.2.3+4\nannotations: {a: b, n: 1}\n"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def archive(*members: tuple[tarfile.TarInfo, bytes], about: bytes = ABOUT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for info, content in ((member("some/Chart.yaml"), about), *members):
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_an_archive_says_what_it_is() -> None:
    content = archive((member("some/templates/a.yaml"), b"x"), (member("some/values.yaml"), b"y"))
    chart = read_chart_archive(content, name="x")
    assert (chart.name, chart.version, chart.annotations) == ("some", "1.2.3+4", {"a": "b"})
    assert chart.templates == {"some/templates/a.yaml": b"x"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        gzip.compress(b"no tar"),
        archive()[:-20],
        archive((member("other/Chart.yaml"), b"")),
        archive((member("some/../../etc/passwd"), b"")),
        archive((member("/etc/passwd"), b"")),
        archive((member("some/Chart.yaml"), ABOUT)),
        archive((member("some/link", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        archive((member("some/link", tarfile.LNKTYPE, "some/Chart.yaml"), b"")),
        archive((member("some/pipe", tarfile.FIFOTYPE), b"")),
        archive((member("some/device", tarfile.CHRTYPE), b"")),
        archive((member("some/large"), bytes(5 << 20) + b"x")),
        archive(about=b""),
        archive(about=b"- a"),
        archive(about=b"name: some"),
        archive(about=b"name: some\nversion: 1.0"),
        archive(about=b"name: a/b\nversion: 1.0.0"),
        archive(about=b"name: some\nversion: ../1"),
        archive(about=b"name: [" + b"[" * 5000),
    ],
)
def test_a_strange_archive_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError, match=r"^x:") as caught:
        read_chart_archive(content, name="x")
    assert "\n" not in str(caught.value)


def test_an_archive_without_chart_yaml_at_its_top_is_refused() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(member("some/charts/sub/Chart.yaml"))
    with pytest.raises(MalformedError, match="there is no some"):
        read_chart_archive(out.getvalue(), name="x")


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_archive, "_MAX_PLAIN_BYTES", 1 << 20)
    with pytest.raises(MalformedError, match="unpacked, got more"):
        read_chart_archive(gzip.compress(bytes(2 << 20)), name="x")


def test_an_archive_of_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_archive, "_MAX_MEMBERS", 3)
    with pytest.raises(MalformedError, match="at most 3 files"):
        read_chart_archive(archive(*((member(f"some/{n}"), b"") for n in range(3))), name="x")


def test_an_archive_whose_last_file_is_not_whole_is_refused() -> None:
    plain = gzip.decompress(archive((member("some/values.yaml"), b"y" * 600)))
    start = plain.index(b"y" * 600)
    with pytest.raises(MalformedError, match="it is cut short"):
        read_chart_archive(gzip.compress(plain[: start + 500]), name="x")


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        (path, schema)
        for path in ("some/values.schema.json", "some/charts/a/charts/b/values.schema.json")
        for schema in (
            '{"$ref": "http://a.example.com/x"}',
            '{"$ref": "file:///dev/zero"}',
            '{"$ref": "other.json"}',
            '{"properties": {"a": {"anyOf": [{"\\u0024ref": "https://a.example.com/x"}]}}}',
            '{"$dynamicRef": "http://a.example.com/x"}',
            '{"$schema": "http://a.example.com/x"}',
            '{"$schema": "http://json-schema.org@a.example.com/x"}',
            '{"$ref": "#"} {"$ref": "http://a.example.com/x"}',
            "not JSON",
            "[" * 100_000,
        )
    ],
)
def test_a_schema_that_would_make_helm_read_something_else_is_refused(
    path: str, schema: str
) -> None:
    with pytest.raises(MalformedError, match=f"x: {path}: ") as caught:
        read_chart_archive(archive((member(path), schema.encode())), name="x")
    assert "\n" not in str(caught.value)


def test_a_schema_that_stands_for_itself_is_taken() -> None:
    schema = (
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "http://a.example/x",'
        b' "properties": {"$ref": {"type": "string"}, "a": {"$ref": "#/$defs/a"}}, "$defs": {}}'
    )
    read_chart_archive(archive((member("some/values.schema.json"), schema)), name="x")


def test_an_archive_in_an_archive_is_refused() -> None:
    for path in ("some/charts/sub-1.tgz", "some/charts/sub/charts/other.tgz"):
        with pytest.raises(MalformedError, match=f"{path}: expected the charts below it unpacked"):
            read_chart_archive(archive((member(path), archive())), name="x")
    read_chart_archive(archive((member("some/files/data.tgz"), archive())), name="x")
