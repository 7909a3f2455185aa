"""What the documents say, held against the code: fields, links, commands and their options."""

from __future__ import annotations

import configparser
import html
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bundler.build.contents import operator_guide
from bundler.cli import COMMANDS, cli
from bundler.cli.plan import _MARKS as PLAN_MARKS
from bundler.document import Document
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import decode_manifest
from bundler.release import _ADDITIVE as ADDITIVE
from bundler.spec import read_spec
from bundler.sums import SUMS_NAME
from bundler.target_reader import read_target, target_template
from bundler.trust import TRUST_FOLDER
from bundler.yamltext import read_yaml
from tests.fuzz.parsers import PARSERS

ROOT = Path(__file__).parents[2]
SPEC_REFERENCE = ROOT / "manifests" / "README.md"
PAGES = sorted((ROOT / "containers" / "public-docs" / "site").glob("*.html"))
GUIDE = ROOT / "bundler" / "build" / "operator_guide.md"
IN_THE_PACKAGE = [
    GUIDE,
    GUIDE.with_name("operator_guide_charts.md"),
    ROOT / "bundler" / "target_template.yaml",
]
FUZZING = ROOT / "tests" / "fuzz" / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
MARKDOWN = [
    *sorted(ROOT.glob("*.md")),
    SPEC_REFERENCE,
    ROOT / "containers" / "README.md",
    *sorted(ROOT.glob("tests/*/README.md")),
]
DOCUMENTS = [*MARKDOWN, *IN_THE_PACKAGE, *PAGES]
# Named by themselves in the documents, as options of sha256sum, tar and Helm.
FOREIGN_OPTIONS = {"--ignore-missing", "--strip-components", "--wait"}


class Recorder(dict[str, object]):
    """A parsed mapping that notes the dotted path of every key that a reader asks it for."""

    def __init__(self, value: dict[str, object], path: str, asked: set[str]) -> None:
        super().__init__({key: record(item, f"{path}{key}", asked) for key, item in value.items()})
        self._path, self._asked = path, asked

    def get(self, key: str, default: object = None) -> object:
        """Note the key, then answer as any mapping does."""
        self._asked.add(f"{self._path}{key}")
        return super().get(key, default)


def record(value: object, path: str, asked: set[str]) -> object:
    if isinstance(value, dict):
        return Recorder(value, f"{path}." if path else "", asked)
    if isinstance(value, list):
        return [record(item, f"{path}[]", asked) for item in value]
    return value


def keys_of(value: object, path: str = "") -> set[str]:
    """Give the dotted path of every key in a parsed value."""
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item, f"{path}[]")}
    if not isinstance(value, dict):
        return set()
    prefix = f"{path}." if path else ""
    found = {f"{prefix}{key}" for key in value}
    return found.union(*(keys_of(item, f"{prefix}{key}") for key, item in value.items()))


def recording(content: str, asked: set[str]) -> Document:
    return Document(
        "document", record(read_yaml(content.encode(), name="document").value, "", asked)
    )


def spec_example() -> str:
    found = re.search(r"```yaml\n(formatVersion.*?)```", SPEC_REFERENCE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_reference_of_the_spec_has_every_field_and_no_other() -> None:
    asked: set[str] = set()
    read_spec(recording(spec_example(), asked))
    rows = re.findall(r"^\| `([^`]+)` \|", SPEC_REFERENCE.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    chosen = re.compile(r"(?<=^models\.)example|(?<=\.names\.).+")
    fields = {
        chosen.sub(lambda name: "<key>" if name[0] == "example" else "<reference>", path)
        for path in asked
    }
    assert set(rows) == fields - {"models.<key>"}


def test_the_references_example_has_every_field_of_a_spec() -> None:
    asked: set[str] = set()
    read_spec(recording(spec_example(), asked))
    assert asked == keys_of(read_yaml(spec_example().encode(), name="example").value)


def test_the_target_template_has_every_field_of_a_target() -> None:
    option = re.compile(r"^( *)# ((?: *)(?:[a-zA-Z.\-/]+:(?: .*)?))$", re.MULTILINE)
    text = option.sub(r"\1\2", target_template().decode())
    asked: set[str] = set()
    read_target(recording(text, asked), base=Path())
    assert asked - keys_of(read_yaml(text.encode(), name="template").value) == set()


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    """Give what a link can name in a Markdown file, as the usual hosts make it from headings."""
    headings = re.findall(r"^#+ +(.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_in_a_document_exists(path: Path) -> None:
    for code in code_of(path):
        for line in code.splitlines():
            for words in re.findall(r"(?<![\w./-])bundle((?: +[^\s;|&)`]+)+)", line):
                check_command(words.split(), line)
        option = re.match(r"--[a-z][\w-]*", code)
        if ROOT / "tests" in path.parents:  # which have those of other programs
            continue
        if option is not None and option[0] not in FOREIGN_OPTIONS:
            assert any(option[0] in options_of(command) for command in commands()), code


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_option_is_of_the_commands_that_a_document_says(path: Path) -> None:
    said = r"`(--[a-z][\w-]*)[^`\n]*` (?:of |\()((?:`[a-z][a-z -]*`(?:, | and )?)+)"
    for option, commands in re.findall(said, path.read_text()):
        for command in re.findall(r"`([^`]+)`", commands):
            check_command([*command.split(), option], f"{option} of {command}")


def test_the_guide_gives_sizes_in_units_that_fit_them() -> None:
    path = ROOT / "tests/data/format-1/tiny-inference-2026.11.0/MANIFEST.json"
    manifest = decode_manifest(path.read_bytes(), name=path.name)
    guide = operator_guide(
        release=manifest.release,
        images=manifest.images,
        chart=manifest.charts[0],
        checkpoints=manifest.checkpoints,
        models=manifest.models,
    ).decode()
    sizes = re.findall(r"^\| `\S+\.tar` \| (\S+) (\S+) \|", guide, re.MULTILINE)
    assert len(sizes) == len(manifest.checkpoints)
    assert all(float(number) >= 1 and unit.endswith("B") for number, unit in sizes)


def test_troubleshooting_uses_the_words_that_the_tool_prints() -> None:
    page = (PAGES[0].parent / "troubleshooting.html").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "bundler").rglob("*.py"))
    messages = re.findall(r"<dt><code>(.*?)</code></dt>", page)
    assert messages
    for message in messages:
        for words in re.split(r"MANIFEST\.json|sha256:\.\.\.|\b(?:PREFIX|FILE|N|M|X|Y)\b", message):
            assert words in sources, message


def test_documents_with_commands_are_read() -> None:
    assert {path.name for path in PAGES} >= {"publish.html", "verify.html"}
    named = {path: re.findall(r"bundle ([a-z]+)", "\n".join(code_of(path))) for path in MARKDOWN}
    assert {"keygen", "lock", "build", "sign", "plan"} <= set(named[ROOT / "README.md"])
    assert "publish" in "\n".join(code_of(GUIDE))


def test_the_readme_names_every_command() -> None:
    code = "\n".join(code_of(ROOT / "README.md"))
    assert [name for name in COMMANDS if not re.search(rf"\bbundle {name}\b", code)] == ["version"]


def test_the_readme_and_the_pages_have_the_same_exit_statuses() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Exit statuses\n")[2]
    page = (PAGES[0].parent / "exit-statuses.html").read_text()
    statuses = re.findall(r'<tr><th scope="row">(\d+)</th>', page)
    assert statuses == re.findall(r"^\| (\d+) \|", section, re.MULTILINE)


def test_the_marks_of_a_plan_are_those_that_it_has() -> None:
    marks = {mark for mark, _ in PLAN_MARKS.values()}
    [guide] = re.findall(r"^In the plan, (.*?)\.\s", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(\W)`", guide)) == marks
    readme = (ROOT / "README.md").read_text().partition("| mark in a plan |")[2]
    assert set(re.findall(r"^\| `(\W)` ", readme.partition("\n\n")[0], re.MULTILINE)) == marks
    page = (PAGES[0].parent / "publish.html").read_text().partition("Marks of")[2]
    assert set(re.findall(r'<th scope="row"><code>(\W)</code>', page)) == marks


def test_the_readme_says_all_that_must_lie_on_one_of_the_media() -> None:
    said = re.search(r"Put all that is no archive(.*?)\. ", (ROOT / "README.md").read_text())
    assert said is not None
    named = re.findall(r"`([^`]+)`", said[1])
    # What split itself leaves beside the volumes.
    wanted = {MANIFEST_NAME, SUMS_NAME, f"{TRUST_FOLDER}/", *ADDITIVE} - {"VOLUMES.json"}
    assert set(named) == wanted


def test_what_fuzzing_tried_names_every_parser() -> None:
    named = re.findall(r"^\| ([\w-]+) \| [0-9]", FUZZING.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(PARSERS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_vendors_public_key_has_one_name(path: Path) -> None:
    # Where several sign, each has a key with a name of its own.
    text = re.sub(r"^.*(?:bundle trust|--threshold).*$", "", path.read_text(), flags=re.MULTILINE)
    names = re.findall(r"(?:--key|-in|-verify) (?:\S*/)?([\w.-]+\.(?:pub|pem))\b", text)
    assert set(names) <= {"release.pub"}


def test_the_drawing_of_the_layers_is_the_one_that_is_held() -> None:
    drawing = re.search(r"## Layers\n\n```\n(.*?)```", ARCHITECTURE.read_text(), re.DOTALL)
    assert drawing is not None
    drawn = [re.split(r" {2,}", line)[0] for line in drawing[1].splitlines()]
    held = setup_cfg("importlinter:contract:layers", "layers")
    assert drawn == held


def test_every_module_that_the_architecture_names_is_there() -> None:
    files = [f"/{path.relative_to(ROOT)}" for path in (ROOT / "bundler").rglob("*.py")]
    files += [f"/{path.relative_to(ROOT)}" for path in (ROOT / "tests").rglob("*.py")]
    named = re.findall(r"`([\w/]+\.py)`", ARCHITECTURE.read_text())
    assert named
    assert [name for name in named if not any(f.endswith(f"/{name}") for f in files)] == []


def test_every_dependency_has_its_line_in_the_architecture() -> None:
    table = ARCHITECTURE.read_text().partition("\n## Dependencies\n")[2]
    wanted = [re.split(r"[ \[]", line)[0] for line in setup_cfg("options", "install_requires")]
    assert [name for name in wanted if not re.search(rf"^\| .*\b{name}\b", table, re.M)] == []


def setup_cfg(section: str, option: str) -> list[str]:
    """Give the lines of an option."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return [line.strip() for line in parser[section][option].strip().splitlines()]


def code_of(path: Path) -> Iterator[str]:
    """Give each piece of code of a document: blocks whole, then what stands within lines."""
    text = path.read_text()
    if path.suffix == ".html":
        for piece in re.findall(r"<code>(.*?)</code>", text, re.DOTALL):
            yield html.unescape(piece)
        return
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"^    (.*)$", text, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", text)


def check_command(words: list[str], line: str) -> None:
    """Hold what stands behind ``bundle`` to the commands that there are; ``#`` ends it."""
    if "#" in words:
        words = words[: words.index("#")]
    command: click.Command = cli
    while words and isinstance(command, click.Group) and words[0][0].islower():
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.partition("=")[0] in options_of(command), line


def commands() -> Iterator[click.Command]:
    """Give every command, and every command of a command."""
    waiting: list[click.Command] = [cli]
    while waiting:
        command = waiting.pop()
        yield command
        if isinstance(command, click.Group):
            ctx = click.Context(command)
            found = (command.get_command(ctx, name) for name in command.list_commands(ctx))
            waiting += [item for item in found if item is not None]


def options_of(command: click.Command) -> set[str]:
    """Give the names of a command's options, the one for help included."""
    ctx = click.Context(command, parent=None if command is cli else click.Context(cli))
    return {name for param in command.get_params(ctx) for name in param.opts}
