"""Group 64, and those before it that a chart's archive can hold: charts that a build reads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.hostile.limited import Case, Place, require_clean, require_refused
from tests.hostile.raw_tar import DEVICE, END, HARD_LINK, LINK, PIPE, member, pax
from tests.hostile.sources import (
    ABOUT,
    Change,
    add_chart,
    chart_archive,
    chart_tar,
    lock_of,
    spoiled,
    template,
)

CHART = Path("chart")
SCHEMA = b"other/values.schema.json"
LAST = b"other/zz"
SPARSE = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", LAST))
MERGES = b"m0: &m0 {a: 1}\n" + b"".join(
    b"m%d: &m%d {<<: [%s]}\n" % (n, n, b", ".join([b"*m%d" % (n - 1)] * 9)) for n in range(1, 12)
)


def packed(*members: bytes, about: bytes = ABOUT) -> Change:
    """Let the release carry the chart of others with such members."""
    return lambda directory: add_chart(directory, chart_archive(*members, about=about))


def raw(archive: bytes) -> Change:
    """Let the release carry these bytes as a chart."""
    return lambda directory: add_chart(directory, archive)


def schema(value: object) -> Change:
    return packed(member(SCHEMA, data=json.dumps(value).encode()))


def about(**fields: str) -> bytes:
    return json.dumps({"apiVersion": "v2", "name": "other", "version": "1.2.3", **fields}).encode()


# Group, what it is, what becomes of good sources, status, what is said.
ARCHIVES: list[tuple[int, str, Change, int, str]] = [
    (1, "climbing name", packed(member(b"other/../../evil")), 3, "climbs"),
    (2, "absolute name", packed(member(b"/etc/evil")), 3, "absolute"),
    (3, "symlink", packed(member(LAST, LINK, link=b"/etc/passwd")), 3, "expected a file"),
    (6, "hard link", packed(member(LAST, HARD_LINK, link=b"../../evil")), 3, "expected a file"),
    (10, "pipe", packed(member(LAST, PIPE)), 3, "expected a file"),
    (10, "device", packed(member(LAST, DEVICE)), 3, "expected a file"),
    (12, "duplicate", packed(member(LAST), member(LAST)), 3, "each once"),
    (13, "file and directory", packed(member(LAST), member(LAST + b"/", b"5")), 3, "each once"),
    (14, "name with an escape", packed(member(LAST + b"\x1b[2J")), 3, "control character"),
    (17, "negative size", packed(member(LAST, size=b"\xff" * 12)), 3, "expected octal"),
    (18, "size of 8 EiB", packed(member(LAST, size=b"\x80" + b"\x7f" * 11)), 3, "cut short"),
    (19, "other size in PAX", packed(pax((b"size", b"5")), member(LAST)), 3, "checksum|cut short"),
    (
        20,
        "two extended headers",
        packed(pax((b"path", b"c/notes.txt")) + pax((b"mtime", b"1")), member(LAST)),
        3,
        "several extended headers",
    ),
    (20, "global header", packed(pax((b"path", b"x"), kind=b"g")), 3, "a global header"),
    (
        21,
        "sparse file of a billion holes",
        packed(pax(*SPARSE), member(LAST, data=b"1000000000\n" + bytes(1 << 20))),
        3,
        "sparse",
    ),
    (22, "endless header", packed(member(b"x", b"x", b"0 path=x\n")), 3, "extended header"),
    (23, "wrong checksum", packed(b"x" + member(LAST)[1:]), 3, "checksum is wrong"),
    (24, "cut between members", raw(gzip.compress(chart_tar()[: -len(END)])), 3, "its zero blocks"),
    (26, "second archive behind", raw(gzip.compress(chart_tar() + chart_tar())), 3, "behind the"),
    (27, "junk behind gzip", raw(chart_archive() + b"junk"), 3, "not the archive of a chart"),
    (28, "bomb of 1 to 1000", raw(gzip.compress(bytes(200 << 20))), 3, "bytes unpacked, got more"),
    (
        29,
        "members without end",
        packed(*(member(b"other/%d" % n) for n in range(20_001))),
        3,
        "at most 20000 files",
    ),
    (30, "tar in the place of gzip", raw(chart_tar()), 3, "not the archive of a chart"),
    (50, "deep Chart.yaml", packed(about=b"name: " + b"[" * 60_000), 3, "not YAML|nested"),
    (51, "aliases of aliases", packed(about=ABOUT + b"a: &a [*a]\n"), 8, "does not render"),
    (52, "merges of merges", packed(about=ABOUT + MERGES), 3, "merged into mappings"),
    (55, "Chart.yaml of 200 KiB", packed(about=ABOUT + b"#" * (200 << 10)), 3, "at most 131072"),
    (64, "name that climbs", packed(about=about(name="../../evil")), 3, "not a file name of ours"),
    (64, "name of the directory itself", packed(about=about(name=".")), 3, "not a file name"),
    (64, "name of the parent", packed(about=about(name="..")), 3, "not a file name"),
    (64, "version that climbs", packed(about=about(version="../1")), 3, "not a file name"),
    (
        64,
        "linked Chart.lock",
        packed(member(b"other/Chart.lock", LINK, link=b"/etc/x")),
        3,
        "a file",
    ),
    (64, "file over 5 MiB", packed(member(LAST, data=bytes((5 << 20) + 1))), 3, "at most 5242880"),
    (64, "chart in a chart's archive", packed(member(b"other/charts/a.tgz")), 3, "unpacked"),
    (64, "schema elsewhere", schema({"$ref": "http://a.example.com/x"}), 3, "inside of the schema"),
    (64, "schema in a file", schema({"$ref": "file:///etc/passwd"}), 3, "inside of the schema"),
    (64, "schema in itself", schema({"$ref": "#"}), 8, "does not render"),
    (64, "deep schema", packed(member(SCHEMA, data=b'{"a":' * 100_000)), 3, "not JSON"),
    (
        64,
        "dependency on a place outside",
        packed(
            about=ABOUT
            + b"dependencies: [{name: evil, version: 1.0.0, repository: 'file://../..'}]\n"
        ),
        8,
        "does not render",
    ),
    (
        64,
        "template that includes itself",
        packed(template(b'{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}')),
        8,
        "does not render",
    ),
    (
        64,
        "template that comes to no object",
        packed(template(b"- just\n- a list\n")),
        8,
        "does not render",
    ),
    (64, "template of aliases", packed(template(b"a: &a [*a]\n")), 8, "does not render"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "status", "says"),
    ARCHIVES,
    ids=[f"{group}-{what}" for group, what, *_ in ARCHIVES],
)
def test_a_hostile_chart_of_others_is_refused(
    place: Place, group: int, what: str, change: Change, status: int, says: str
) -> None:
    require_refused(Case(group, what, spoiled(change, "lock"), status, says), place)


def file(path: str, content: bytes) -> Change:
    """Put a file into the release's own chart."""

    def change(directory: Path) -> None:
        (directory / CHART / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / CHART / path).write_bytes(content)

    return change


def link(path: str, to: str) -> Change:
    """Put a link into the release's own chart."""

    def change(directory: Path) -> None:
        (directory / CHART / path).unlink(missing_ok=True)
        (directory / CHART / path).symlink_to(to)

    return change


def named(name: str) -> Change:
    """Let the release's own chart call itself otherwise."""

    def change(directory: Path) -> None:
        path = directory / CHART / "Chart.yaml"
        path.write_text(path.read_text().replace("name: inference", f"name: {name}"))

    return change


def varying(call: str) -> Change:
    text = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{a: {{{{ {call} }}}}}}\n"
    )
    return file("templates/evil.yaml", text.encode())


OWN: list[tuple[int, str, Change, int, str]] = [
    (64, "own name that climbs", named("../../evil"), 3, "not a file name of ours"),
    (64, "own name of the parent", named("'..'"), 3, "not a file name of ours"),
    (64, "own linked Chart.lock", link("Chart.lock", "/etc/passwd"), 3, "symbolic link"),
    (64, "own link to a directory", link("templates/etc", "/etc"), 3, "a link to a directory"),
    (64, "own link to nothing", link("values.yaml", "/nowhere"), 9, "not there"),
    (64, "own link to a device", link("templates/zero", "/dev/zero"), 3, "a device"),
    (64, "own file over 5 MiB", file("files/large", bytes((5 << 20) + 1)), 3, "at most 5242880"),
    (64, "own template that looks up", varying('lookup "v1" "Secret" "" ""'), 8, "differently"),
    (64, "own template that asks DNS", varying('getHostByName "a.example"'), 8, "differently"),
    (64, "own template that makes keys", varying('genCA "a" 1'), 8, "differently"),
    (
        64,
        "own schema elsewhere",
        file("values.schema.json", b'{"$ref": "http://a.example.com/x"}'),
        3,
        "inside of the schema",
    ),
    (64, "own comments without end", file("templates/a.yaml", b"{{/*" * 500_000), 8, "not render"),
    (64, "own hidden file", file(".secret", b"x"), 3, "hidden file"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "status", "says"),
    OWN,
    ids=[f"{group}-{what}" for group, what, *_ in OWN],
)
def test_a_hostile_chart_of_our_own_is_refused(
    place: Place, group: int, what: str, change: Change, status: int, says: str
) -> None:
    require_refused(Case(group, what, spoiled(change), status, says), place)


def test_64_what_renders_by_more_than_values_is_told(place: Place) -> None:
    """A chart of others may ask a cluster; here nothing is asked, and people are told."""
    text = (
        b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n"
        b"  annotations: {helm.sh/hook: pre-install}\n"
        b'data: {a: "{{ lookup "v1" "Secret" "" "" }}"}\n'
    )
    argv = spoiled(packed(template(text)), "lock")(place)
    before = place.snapshot()
    done = place.run(*argv)
    assert done.status == 0, done.stderr
    assert "renders by more than its values: other/templates/a.yaml:6 (lookup)" in done.stderr
    require_clean(done, place, {**before, **lock_of(place)})
