"""References to images: read as runtimes read them, and told from other settings."""

from __future__ import annotations

import pytest

from bundler.image_reference import ImageField, covers, is_complete, is_tagged, parse_reference

HEX = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("prom/prometheus:v2", "docker.io/prom/prometheus:v2"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("localhost/a:1", "localhost/a:1"),
        ("registry:5000/a__b/c:1", "registry:5000/a__b/c:1"),
        (f"quay.io/a@{HEX}", f"quay.io/a@{HEX}"),
        (f"quay.io/a:1@{HEX}", f"quay.io/a:1@{HEX}"),
    ],
)
def test_references_are_read_as_a_runtime_reads_them(text: str, source: str) -> None:
    assert str(parse_reference(text)) == f"docker://{source}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Upper/case:1",
        "a:b:c",
        "quay.io/a:",
        "quay.io/a@sha256:short",
        "https://quay.io/a:1",
        "docker://quay.io/a:1",
        " quay.io/a:1",
        "${IMAGE}",
        "quay.io//a:1",
        "{{ .image }}",
        "a b",
        "-a/b:1",
        "quay.io/../a:1",
        "a" * 600,
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "quay.io/a:1",
        f"quay.io/a/b@{HEX}",
        "localhost/a:1",
        "10.0.0.1:5000/a:1",
        "registry.local/a:v1",
        "registry.kube-system.svc.cluster.local:5000/a:1",
        f"registry.local/a@{HEX}",
    ],
)
def test_a_host_and_a_tag_or_digest_make_a_reference_complete(text: str) -> None:
    assert is_complete(text)


@pytest.mark.parametrize(
    "text",
    [
        "busybox:1",
        "prom/prometheus:v2",
        "quay.io/a",
        "rbac.authorization.k8s.io/v1",
        "http://quay.io/a:1",
        "docker://quay.io/a:1",
        "0.0.0.0:8080",
        "example.com:80",
        "kubernetes.io/os",
        "/etc/a.d/b:ro",
        "10.0.0.0/8:1",
        "2024.01.01/12:30",
        "model2.5/base:large",
        "web.shop.svc.cluster.local/api:80",
        "web.shop.svc/api:80",
        "a.b/c d:1",
    ],
)
def test_other_settings_are_not_taken_for_complete_references(text: str) -> None:
    assert not is_complete(text)


@pytest.mark.parametrize(
    "text", ["busybox:1.36", "istio/proxyv2:1", "alpine:20230901", f"a/b@{HEX}", "quay.io/a:1"]
)
def test_a_tag_or_a_digest_tells_a_reference_from_a_word(text: str) -> None:
    assert is_tagged(text)


@pytest.mark.parametrize(
    "text",
    [
        "busybox",
        "org/app",
        "localhost:5000",
        "registry:5000",
        "a.example.com:443",
        HEX,
        "A:1",
        "a:",
    ],
)
def test_words_hosts_with_ports_and_digests_are_not_tagged(text: str) -> None:
    assert not is_tagged(text)


@pytest.mark.parametrize(
    ("have", "want", "covered"),
    [
        ("q.io/a:1", "q.io/a:1", True),
        (f"q.io/a:1@{HEX}", "q.io/a:1", True),
        (f"q.io/a:1@{HEX}", f"q.io/a@{HEX}", True),
        ("q.io/a:1", f"q.io/a:1@{HEX}", False),
        (f"q.io/a:1@{HEX}", f"q.io/a:1@{OTHER}", False),
        ("q.io/a:1", "q.io/a:2", False),
        ("q.io/a:1", "q.io/b:1", False),
    ],
)
def test_an_image_covers_what_says_less_of_it(have: str, want: str, covered: bool) -> None:
    assert covers(parse_reference(have), parse_reference(want)) is covered


def test_a_field_goes_through_lists_whether_written_so_or_not() -> None:
    assert ImageField.parse("Kind:spec.items[*].image") == ImageField.parse("Kind:spec.items.image")
    assert str(ImageField.parse("Kind:spec.items[].image")) == "Kind:spec.items.image"


@pytest.mark.parametrize("text", ["", "Kind", "Kind:", "spec.image", "Kind:a..b", "Kind:a b", ":a"])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a field"):
        ImageField.parse(text)
