"""A destination with releases, as publish leaves them; without images, and without archives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundler.digest import Digest
from bundler.manifest import Checkpoint, CheckpointFile, Manifest, Model
from bundler.manifest_codec import encode_manifest
from bundler.publish.layout import Layout, lay_out
from bundler.publish.objects import markers, release_files
from bundler.publish.pointer import Deployed, Pointer, encode_pointer
from bundler.receipt import ChartReceipt, Receipt, encode_receipt
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease, open_release
from bundler.signing.keys import PrivateKey
from bundler.stores.base import ObjectStore
from bundler.target import RegistryTarget, S3Target, Target
from bundler.tools.helm_release import Installed
from bundler.trust import Trust
from tests.small_release import sign_anything
from tests.unit.small_files import SOME, new_key, small_manifest, write_small_files

Contents = Mapping[str, bytes]


@dataclass
class Published:
    """One destination, and what was published to it.

    Attributes:
        store: Its bucket.
        directory: A place for the small files of releases.
        target: What names it.
        key: Signs every release.
        releases: What was published, by name.
    """

    store: ObjectStore
    directory: Path
    target: Target = field(
        default_factory=lambda: Target(
            registry=RegistryTarget(host="registry.example"),
            s3=S3Target(place=S3Prefix("models", "llm")),
        )
    )
    key: PrivateKey = field(default_factory=new_key)
    releases: dict[str, TrustedRelease] = field(default_factory=dict)

    def release(self, sequence: int, checkpoints: Mapping[str, Contents]) -> TrustedRelease:
        """Make and sign a release of some checkpoints: each is served by a model of its name."""
        version = f"1.0.{sequence}"
        base = small_manifest()
        root = f"demo-{version}"
        manifest = replace(
            base,
            release=replace(base.release, version=version, sequence=sequence),
            bundle=replace(base.bundle, archive=f"{root}.tar.gz", root=root),
            checkpoints=tuple(_checkpoint(name, files) for name, files in checkpoints.items()),
            models=tuple(_model(name) for name in checkpoints),
        )
        directory = _write(self.directory / root, manifest, self.key)
        return open_release(directory, Trust.of_keys([self.key.public]))

    def publish(
        self, sequence: int, checkpoints: Mapping[str, Contents], *, deployed_at: str | None = None
    ) -> TrustedRelease:
        """Put a release there, and remember it as deployed if there is a time for that."""
        release = self.release(sequence, checkpoints)
        layout = self.layout(release)
        for name, place in layout.checkpoints.items():
            for path, content in checkpoints[name].items():
                self.store.put(place.key(path), content)
        for key, content in (release_files(release, layout) | markers(release, layout)).items():
            self.store.put(key, content)
        if deployed_at is not None:
            self.leave_receipt(release, deployed_at)
            self.point(release)
        self.releases[release.manifest.release.directory] = release
        return release

    def leave_receipt(self, release: TrustedRelease, time: str, *, installed: bool = True) -> None:
        """Leave the receipt of a run, which installed the chart or was about other parts."""
        receipt = _receipt(release, time)
        receipt = receipt if installed else replace(receipt, chart=None)
        key = self.layout(release).release.key("receipts", f"{receipt.name}.json")
        self.store.put(key, encode_receipt(receipt))

    def point(self, release: TrustedRelease) -> None:
        """Remember a release as deployed."""
        facts = release.manifest.release
        digest = Digest.of(release.manifest_bytes)
        deployed = Deployed(release=facts.directory, manifest=digest, sequence=facts.sequence)
        pointer = Pointer(deployed=deployed, highest=facts.sequence)
        self.store.replace(
            self.target.s3.place.key("releases", "current.json"), encode_pointer(pointer)
        )

    def layout(self, release: TrustedRelease) -> Layout:
        return lay_out(release.manifest, self.target)

    def installed(self, release: TrustedRelease, revision: int = 1) -> Installed:
        """Give what Helm keeps of a release that was deployed."""
        layout, manifest = self.layout(release), release.manifest
        models = {
            item.model.key: {"model": str(layout.checkpoints[item.model.checkpoint])}
            for item in layout.served
        }
        return Installed(
            revision=revision,
            status="deployed",
            chart=f"{manifest.own_chart.name}-{manifest.own_chart.version}",
            values={
                "release": {
                    "name": manifest.release.directory,
                    "manifest": layout.manifest_url,
                    "manifestSha256": Digest.of(release.manifest_bytes).hex,
                },
                "models": models,
            },
            last_good=revision,
        )

    def keys(self) -> set[str]:
        """Name every object."""
        return {item.key for item in self.store.list("")}


def _checkpoint(name: str, contents: Contents) -> Checkpoint:
    files, offset = [], 1024
    for path, content in sorted(contents.items()):
        digest = Digest.of(content)
        files.append(
            CheckpointFile(
                path=path, offset=offset, size=len(content), digest=digest, parts=(digest,)
            )
        )
        offset += 1024 + len(content)
    return Checkpoint(
        name=name,
        root="files",
        size=offset + 4096,
        digest=SOME,
        frame_digest=SOME,
        files=tuple(files),
    )


def _model(name: str) -> Model:
    return Model(key=name, checkpoint=name, model_name=name, model_type="completion", gpus=1)


def _write(directory: Path, manifest: Manifest, key: PrivateKey) -> Path:
    sums = {name: digest for name, (_, digest) in manifest.archives.items()}
    content = encode_manifest(manifest)
    write_small_files(directory, content, sums | {"MANIFEST.json": Digest.of(content)})
    sign_anything(directory, key)
    return directory


def _receipt(release: TrustedRelease, time: str) -> Receipt:
    chart = ChartReceipt(
        namespace="n",
        release="inference",
        chart="inference-1",
        revision=1,
        values_digest=SOME,
        changed=True,
    )
    return Receipt(
        release=release.manifest.release.directory,
        manifest=Digest.of(release.manifest_bytes),
        sequence=release.manifest.release.sequence,
        signatures=release.signatures,
        time=time,
        tool="1",
        bucket="s3://models/llm",
        store_checks_content=True,
        images=(),
        objects=(),
        chart=chart,
    )
