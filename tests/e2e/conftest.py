"""The demo's release, built once through the installed command, for every end-to-end test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rehearsal.registry import registry as start_registry
from tests.rehearsal.site import Site

CHECKOUT = Path(__file__).parents[2]
BUNDLE = CHECKOUT / ".venv" / "bin" / "bundle"
_PASSPHRASE = "correct horse"


@dataclass(frozen=True, slots=True)
class Built:
    """A signed release, and the public key to trust."""

    directory: Path
    key: Path

    @property
    def bundle(self) -> Path:
        """The deployment bundle's archive."""
        return self.directory / f"{self.directory.name}.tar.gz"


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build and sign what ``scripts/demo`` builds, from a vendor's registry of its own."""
    work = tmp_path_factory.mktemp("vendor")
    models = CHECKOUT / "manifests" / "models"
    _call(CHECKOUT / "scripts" / "make-models", models)
    with start_registry() as vendor:
        _call(
            *(CHECKOUT / "scripts" / "build-images", "--tag", "1.0.0"),
            *("--push", vendor.address, "--tls-verify=false"),
        )
        spec = work / "demo.yaml"
        text = (CHECKOUT / "manifests" / "demo.yaml").read_text()
        spec.write_text(text.replace("127.0.0.1:5055", vendor.address))
        (work / "models").symlink_to(models)
        for name in ("charts", "scripts"):
            (work.parent / name).symlink_to(CHECKOUT / name)
        built = Path(_call(BUNDLE, "build", spec, "-o", work / "media").strip())
    passphrase = work / "passphrase"
    passphrase.write_text(_PASSPHRASE)
    _call(BUNDLE, "keygen", work / "release", "--passphrase-file", passphrase)
    _call(BUNDLE, "sign", built, "--key", work / "release.key", "--passphrase-file", passphrase)
    return Built(built, work / "release.pub")


def clear(site: Site, namespace: str) -> None:
    """Free what the pods of a namespace hold, without the patience that they would be due."""
    site.kubectl("delete", "deployments", "--all", "-n", namespace, "--cascade=background")
    site.kubectl(
        "delete", "pods", "--all", "-n", namespace, "--force", "--grace-period=0", "--wait=false"
    )
    site.kubectl("delete", "namespace", namespace, "--wait=false")


def _call(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr[-3000:]}"
    return done.stdout
