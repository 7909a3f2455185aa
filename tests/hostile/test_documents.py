"""Groups 45 to 57: JSON that nobody vouched for yet or somebody signed, and YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.manifest import MANIFEST_NAME
from tests.hostile.limited import Case, Place, require_refused
from tests.hostile.releases import signed
from tests.integration.release_inputs import write_inputs

Table = dict[str, Any]


def replaced(old: str, new: str) -> Callable[[str], bytes]:
    def change(text: str) -> bytes:
        assert old in text
        return text.replace(old, new, 1).encode()

    return change


def edited(edit: Callable[[Table], object]) -> Callable[[str], bytes]:
    def change(text: str) -> bytes:
        table = json.loads(text)
        edit(table)
        return json.dumps(table).encode()

    return change


def with_path(path: str) -> Callable[[str], bytes]:
    """Give the first file of a checkpoint another path."""
    return edited(lambda table: table["checkpoints"][0]["files"][0].update(path=path))


SEQUENCE = '"sequence": 1'
# Group, what it is, what becomes of a good manifest, what is said of it.
JSON: list[tuple[int, str, Callable[[str], bytes], str]] = [
    (45, "duplicate key", replaced("{", '{"models": [],'), "'models' stands there twice"),
    (48, "integer of 5000 digits", replaced(SEQUENCE, f'"sequence": {"9" * 5000}'), "beyond 2"),
    (50, "depth 3000", lambda _: b"[" * 3000 + b"]" * 3000, "nested"),
    (50, "depth of a million", lambda _: b'{"a":' * 1_000_000, "nested too deep|values"),
    (53, "NaN", replaced(SEQUENCE, '"sequence": NaN'), "not an integer: NaN"),
    (53, "Infinity", replaced(SEQUENCE, '"sequence": -Infinity'), "not an integer"),
    (53, "number beyond all", replaced(SEQUENCE, '"sequence": 1e999'), "not an integer: 1e999"),
    (53, "number with a point", replaced(SEQUENCE, '"sequence": 1.0'), "not an integer: 1.0"),
    (53, "lone surrogate", replaced("tiny-inference", "\\ud800"), "surrogates not allowed"),
    (53, "byte order mark", lambda text: b"\xef\xbb\xbf" + text.encode(), "not JSON"),
    (53, "UTF-16", lambda text: text.encode("utf-16"), "not JSON"),
    (54, "two documents", lambda text: (text + text).encode(), "not JSON"),
    (54, "no document", lambda _: b"", "not JSON"),
    (54, "text alone", lambda _: b'"hello"', "expected a mapping"),
    (55, "text of 60 MiB", replaced("tiny-inference", "x" * (60 << 20)), "at most 4096 characters"),
    (
        55,
        "text of 60 MiB and one wide",
        lambda _: b'"' + b"x" * (60 << 20) + '\U0001f600"'.encode(),
        "mem|mapping",
    ),
    (
        55,
        "million keys",
        lambda _: json.dumps(dict.fromkeys(map(str, range(10**6)))).encode(),
        "formatVersion: missing",
    ),
    (
        55,
        "two million mappings",
        lambda _: b"[" + b",".join(b'{"k%d":1}' % n for n in range(1_990_000)) + b"]",
        "more memory than there is",
    ),
    (55, "more than 64 MiB", lambda _: b" " * ((64 << 20) + 1), "at most 67108864 bytes"),
    (57, "absolute path", with_path("/etc/passwd"), "absolute"),
    (57, "climbing path", with_path("a/../../evil"), "climbs"),
    (57, "path that is not normal", with_path("./a//b"), "not normal"),
    (57, "path with a backslash", with_path("..\\evil"), "backslash"),
    (57, "path with a drive", with_path("C:\\evil"), "backslash"),
    (57, "empty path", with_path(""), "empty"),
    (57, "path of 5000 bytes", with_path("n" * 5000), "over 512|at most 4096"),
    (57, "path that moves the cursor", with_path("\x1b[2J\x9b\u202e"), "control character"),
    (57, "path that is not NFC", with_path("e\u0301"), "normal form C"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "says"), JSON, ids=[f"{group}-{what}" for group, what, *_ in JSON]
)
def test_a_hostile_manifest_is_refused(
    place: Place, good: Path, group: int, what: str, change: Callable[[str], bytes], says: str
) -> None:
    """Once as nobody vouched for it; the reader of what was signed is the same."""

    def make(place: Place) -> list[str]:
        release = signed(place, good)
        release.sign_manifest(change((release.directory / MANIFEST_NAME).read_text()))
        return ["inspect", str(release.directory)]

    require_refused(Case(group, what, make, 3, says), place)


@pytest.mark.parametrize("command", ["verify", "extract"])
def test_57_a_signed_path_that_climbs_is_refused(place: Place, good: Path, command: str) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        release.sign_manifest(with_path("../evil")((release.directory / MANIFEST_NAME).read_text()))
        if command == "verify":
            return release.arguments(command)
        return [*release.arguments(command, place.out), "--only", "tiny_2026.10"]

    require_refused(Case(57, "climbing path", make, 3, "climbs"), place)


CREATED = "created: '2026-11-01T00:00:00Z'"
VERSION = "version: 2026.11.0"
MERGES = "".join(f"m{n}: &m{n} {{<<: [{f'*m{n - 1}, ' * 9}]}}\n" for n in range(1, 12))
LEVELS = "".join(f"l{n}: &l{n} [{f'*l{n - 1}, ' * 9}]\n" for n in range(1, 12))
# Group, what it is, what becomes of a good spec, what is said of it.
YAML: list[tuple[int, str, Callable[[str], bytes], str]] = [
    (
        45,
        "duplicate key",
        replaced("sequence: 3", "sequence: 3\n  sequence: 4"),
        "stands there twice",
    ),
    (46, "word that is a boolean to some", replaced(VERSION, "version: no"), "more than one way"),
    (46, "octal", replaced("sequence: 3", "sequence: 012"), "more than one way"),
    (46, "sexagesimal", replaced("sequence: 3", "sequence: 1:30"), "more than one way"),
    (46, "version with a point", replaced(VERSION, "version: 1.10"), "more than one way"),
    (46, "exponent", replaced("sequence: 3", "sequence: 1e3"), "text|more than one way|integer"),
    (47, "line separator", replaced(VERSION, "version: a\u2028sequence: 9"), "in two ways"),
    (47, "next line", replaced(VERSION, "version: a\x85sequence: 9"), "in two ways"),
    (48, "integer of 5000 digits", replaced("sequence: 3", f"sequence: {'9' * 5000}"), "one way"),
    (49, "date that is none", replaced(CREATED, "created: 2026-13-45"), "more than one way"),
    (49, "date", replaced(CREATED, "created: 2026-11-01"), "more than one way"),
    (49, "binary", replaced(VERSION, "version: !!binary aGk="), "more than one way"),
    (49, "set", replaced(VERSION, "version: !!set {a}"), "tag"),
    (50, "depth 3000", lambda _: b"[" * 3000 + b"]" * 3000, "nested more than 32"),
    (50, "depth of half a million", lambda _: b"[" * 500_000, "nested more than 32"),
    (51, "aliases of aliases", lambda text: f"l0: &l0 [a]\n{LEVELS}{text}".encode(), "anchors"),
    (51, "list in itself", lambda text: f"a: &a [*a]\n{text}".encode(), "anchors and aliases"),
    (52, "merge", lambda text: f"<<: {{a: 1}}\n{text}".encode(), "quote it"),
    (52, "merges of merges", lambda text: f"m0: &m0 {{a: 1}}\n{MERGES}{text}".encode(), "anchors"),
    (52, "null as a key", lambda text: f"~: 1\n{text}".encode(), "text as a key"),
    (52, "number as a key", lambda text: f"1: 1\n{text}".encode(), "text as a key"),
    (52, "list as a key", lambda text: f"? [1]\n: 1\n{text}".encode(), "plain key"),
    (53, "UTF-16", lambda text: text.encode("utf-16"), "not YAML"),
    (54, "two documents", lambda text: f"{text}---\n{text}".encode(), "not YAML as we read it"),
    (54, "no document", lambda _: b"", "formatVersion|missing"),
    (54, "text alone", lambda _: b"hello", "expected a mapping"),
    (54, "tab", lambda _: b"release:\n\tname: a\n", "not YAML"),
    (54, "version 9.9", lambda text: f"%YAML 9.9\n---\n{text}".encode(), "not YAML"),
    (54, "object of Python", lambda _: b"a: !!python/object/apply:os.system [id]\n", "tag"),
    (55, "text of 200 MiB", lambda _: b"a: " + b"x" * (200 << 20), "at most"),
    (55, "text of a MiB", lambda _: b"a: " + b"x" * ((1 << 20) - 3), "missing|unknown"),
    (55, "sixty thousand keys", lambda _: b"".join(b"k%d:\n" % n for n in range(60_000)), "50000"),
    (55, "million empty lists", lambda _: b"[" + b"[]," * 300_000 + b"]", "50000"),
    (55, "comment of a MiB", lambda _: b"#\n" * (500 << 10), "missing"),
    (
        56,
        "image with a login",
        replaced("oci:images/atlas:1.0.0", "docker://user:canary@a.example/b:1"),
        "source",
    ),
    (
        56,
        "image in uppercase",
        replaced("oci:images/atlas:1.0.0", "docker://a.example/B:1"),
        "not an image source",
    ),
    (
        56,
        "image that begins with a dash",
        replaced("name: atlas", "name: -atlas"),
        "not an image name",
    ),
    (
        56,
        "name with braces",
        replaced("modelName: One", 'modelName: "{{ .Values }}\\n"'),
        "control character",
    ),
    (56, "key of prototypes", replaced("  one:\n    ch", "  __proto__:\n    ch"), "model key"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "says"), YAML, ids=[f"{group}-{what}" for group, what, *_ in YAML]
)
def test_a_hostile_spec_is_refused(
    place: Place, group: int, what: str, change: Callable[[str], bytes], says: str
) -> None:
    def make(place: Place) -> list[str]:
        spec = write_inputs(place.input)
        spec.write_bytes(change(spec.read_text()))
        return ["lock", str(spec), "--no-cache"]

    require_refused(Case(group, what, make, 3, says), place)


LOCKS: list[tuple[int, str, bytes, str]] = [
    (45, "duplicate key in a lock", b'{"formatVersion": 1, "formatVersion": 1}', "there twice"),
    (48, "integer of 5000 digits in a lock", b'{"formatVersion": %s}' % (b"9" * 5000), "beyond 2"),
    (50, "deep lock", b'{"a":' * 100_000, "nested too deep"),
    (53, "NaN in a lock", b'{"formatVersion": NaN}', "not an integer: NaN"),
    (55, "lock of 100 MiB", b" " * (100 << 20), "expected at most"),
]


@pytest.mark.parametrize(
    ("group", "what", "content", "says"), LOCKS, ids=[f"{g}-{w}" for g, w, *_ in LOCKS]
)
def test_a_hostile_lock_is_refused(
    place: Place, group: int, what: str, content: bytes, says: str
) -> None:
    def make(place: Place) -> list[str]:
        spec = write_inputs(place.input)
        spec.with_name("release.lock.json").write_bytes(content)
        return ["build", str(spec), "--output", str(place.out), "--no-cache"]

    require_refused(Case(group, what, make, 3, says), place)


# What a target must not be given: each is read before anything is reached.
TARGETS: list[tuple[int, str, str, str]] = [
    (45, "duplicate key", "registry: {host: a.example, host: b.example}", "stands there twice"),
    (51, "alias", "registry: &a {host: *a}", "anchors"),
    (
        56,
        "registry with a login",
        "registry: {host: 'user:canary@a.example'}",
        "not a registry|login",
    ),
    (56, "registry that is an option", "registry: {host: '--help'}", "not a registry"),
    (56, "endpoint with a login", "s3: {bucket: abc, endpoint: 'https://u:canary@h'}", "login"),
    (56, "namespace that is an option", "kubernetes: {namespace: '--help'}", "DNS label"),
    (56, "bucket with a newline", 'registry: {host: a.example}\ns3: {bucket: "a\\nb"}', "bucket"),
]


@pytest.mark.parametrize("command", ["plan", "publish"])
@pytest.mark.parametrize(
    ("group", "what", "text", "says"), TARGETS, ids=[f"{g}-{w}" for g, w, *_ in TARGETS]
)
def test_a_hostile_target_is_refused(
    place: Place, good: Path, group: int, what: str, text: str, says: str, command: str
) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        target = place.input / "target.yaml"
        parts = {"registry": "registry: {host: a.example}", "s3": "s3: {bucket: abc}"}
        parts["kubernetes"] = "kubernetes: {namespace: abc}"
        kept = [line for name, line in parts.items() if f"{name}:" not in text]
        target.write_text("\n".join(["formatVersion: 1", *kept, text, ""]))
        return [*release.arguments(command), "--target", str(target)]

    case = Case(group, what, make, 3, says)
    require_refused(case, place)
