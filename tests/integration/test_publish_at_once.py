"""Two publishers who put the same release's small files at one moment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundler.publish.carry_out import publish
from bundler.publish.only import Only
from bundler.publish.planning import make_plan
from bundler.publish.travelling import carry_along
from bundler.receipt import Receipt
from bundler.release import TrustedRelease, open_release, signature_name
from bundler.sign import sign_release
from bundler.trust import Trust
from tests.integration import test_publish as whole
from tests.integration.test_publish import Site
from tests.publishable import make_publishable
from tests.roots import new_person

site = whole.site
CHECKPOINTS = Only(("checkpoints",))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrustedRelease, TrustedRelease]:
    """One release that one key signed twice: ECDSA gives other bytes each time."""
    first = tmp_path_factory.mktemp("release") / "demo"
    make_publishable(first)
    for path in first.glob("SHA256SUMS.*"):
        path.unlink()
    second, key = first.with_name("twin"), new_person()
    shutil.copytree(first, second)
    for directory in (first, second):
        sign_release(directory, key.private)
    trust, notes = Trust.of_keys([key.public]), list[str]()
    one, other = (
        carry_along(open_release(directory, trust), notes.append) for directory in (first, second)
    )
    assert one.signature_files != other.signature_files
    assert notes == []
    return one, other


def test_who_comes_second_takes_what_the_first_put_if_it_is_as_good(
    site: Site, twins: tuple[TrustedRelease, TrustedRelease], tmp_path: Path
) -> None:
    plans = [
        make_plan(
            release, site.target, site.destination, secrets=(), now=site.now, only=CHECKPOINTS
        )
        for release in twins
    ]
    receipts: list[Receipt] = []
    for number, (release, plan) in enumerate(zip(twins, plans, strict=True)):
        directory = tmp_path / str(number)
        directory.mkdir()
        receipt = publish(
            plan,
            release,
            site.target,
            site.destination,
            secrets=(),
            values_path=directory / "values.yaml",
            receipts=directory,
            now=site.now,
            scratch_parent=directory,
        )
        assert receipt is not None
        receipts.append(receipt)
    name = signature_name(twins[0].signatures[0])
    [key] = [item.key for item in receipts[0].objects if item.key.endswith(f"/{name}")]
    assert site.store.get(key, limit=1 << 10) == twins[0].signature_files[name]
    # The second one's receipt claims nothing of what stayed.
    assert key not in {item.key for item in receipts[1].objects}
    assert not [done for done in receipts[1].done if key in done]
