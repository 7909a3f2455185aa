"""``bundle fetch`` beside what others bring a prefix with, from one S3 server, in turns.

Ours verifies each part by the signed manifest and flushes every file to the disk; the others do
neither. Each fetch is done a second time, when all is there: ours reads and hashes all of it again,
the others compare names, sizes and times.

    scripts/bench fetch [--gib N] [--rounds N] [--directory DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bundler.digest import Digest
from bundler.manifest_codec import encode_manifest
from bundler.reference import S3Prefix
from bundler.stores.opening import open_bucket
from tests.bench.measure import Cost, measure
from tests.integration.fetching import checkpoint_of, manifest_of, upload
from tests.rehearsal.s3 import S3, s3

_BUCKET, _FILES = "bench-fetch", 4
_SOURCE = S3Prefix(_BUCKET, "checkpoints/bench/0123456789abcdef")
_MANIFEST = S3Prefix(_BUCKET, "releases/bench-1/MANIFEST.json")
_HEAD = """\
| command | wall s | CPU-s/GB | peak MB | again, wall s | again, CPU-s/GB |
|---|---|---|---|---|---|"""


def main(arguments: Sequence[str] = ()) -> int:
    """Measure, and print a table in Markdown: medians, and in brackets the ranges of wall time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where files are fetched to")
    asked = parser.parse_args(arguments)
    os.environ["PATH"] = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="bench-", dir=asked.directory) as place, s3() as server:
        _log_in(server, Path(place))
        size = int(asked.gib * (1 << 30)) // _FILES
        tools = _tools(server, _publish(server, size))
        costs = _measure(tools, asked.rounds, Path(place))
    print(f"{_FILES} files, {size * _FILES / 1e9:.2f} GB, {asked.rounds} rounds\n\n{_HEAD}")
    for tool, runs in costs.items():
        print(_row(tool, runs, size * _FILES / 1e9))
    return 0


def _log_in(server: S3, home: Path) -> None:
    """Write what every tool reads in a home directory."""
    place = home / ".aws"
    place.mkdir()
    keys = server.credentials
    (place / "credentials").write_text(
        f"[default]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n"
    )
    (place / "config").write_text(
        f"[default]\nregion = {server.region}\nendpoint_url = {server.url}\n"
    )
    os.environ["AWS_CONFIG_FILE"] = str(place / "config")
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(place / "credentials")


def _publish(server: S3, size: int) -> Digest:
    """Store a checkpoint that nothing can compress; gives its manifest's sha256."""
    server.create_bucket(_BUCKET)
    store = open_bucket(_BUCKET, endpoint=server.url, region=server.region)
    files = {f"model-{number}.safetensors": os.urandom(size) for number in range(_FILES)}
    checkpoint = checkpoint_of(files)
    upload(store, _SOURCE, files, checkpoint)
    content = encode_manifest(manifest_of(checkpoint))
    store.put(_MANIFEST.prefix, content)
    return Digest.of(content)


def _tools(server: S3, digest: Digest) -> Mapping[str, Sequence[str]]:
    """Give the command of each tool that is here; the directory comes behind."""
    ours = [sys.executable, "-m", "bundler", "fetch", "--manifest", str(_MANIFEST)]
    ours += ["--manifest-sha256", digest.hex, "--checkpoint", "tiny", str(_SOURCE)]
    tools = {
        "bundle fetch": ours,
        "aws s3 sync": ["aws", "s3", "sync", "--only-show-errors", f"{_SOURCE}/"],
        "s5cmd sync": [
            *("s5cmd", "--endpoint-url", server.url, "--log", "error"),
            *("sync", f"{_SOURCE}/*"),
        ],
    }
    return {
        name: [program, *argv[1:]]
        for name, argv in tools.items()
        if (program := shutil.which(argv[0])) is not None
    }


def _measure(
    tools: Mapping[str, Sequence[str]], rounds: int, place: Path
) -> Mapping[str, list[tuple[Cost, Cost]]]:
    """Let the tools take turns; each fetch, and the same again."""
    costs: dict[str, list[tuple[Cost, Cost]]] = {tool: [] for tool in tools}
    names = list(tools)
    for number in range(rounds):
        turn = number % len(names)
        for tool in names[turn:] + names[:turn]:
            fetched = place / "fetched"
            argv = [*tools[tool], f"{fetched}/"]
            os.sync()  # what was left to be written is not to be paid by this one
            first, again = (measure([argv], place / f"scratch-{which}") for which in range(2))
            costs[tool].append((first, again))
            for used in (fetched, *place.glob("scratch-?")):
                shutil.rmtree(used)
            for log in place.glob("*.log"):
                log.unlink()
    return costs


def _row(tool: str, runs: Sequence[tuple[Cost, Cost]], gigabytes: float) -> str:
    walls = [first.wall_seconds for first, _ in runs]
    first_cpu, again_cpu = (
        median(run[which].cpu_seconds for run in runs) / gigabytes for which in range(2)
    )
    peak = max(first.peak_bytes for first, _ in runs) / 1e6
    again = median(second.wall_seconds for _, second in runs)
    return (
        f"| {tool} | {median(walls):.2f} [{min(walls):.2f}-{max(walls):.2f}] | {first_cpu:.2f} "
        f"| {peak:.0f} | {again:.2f} | {again_cpu:.2f} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
