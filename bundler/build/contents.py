"""What lies in the deployment bundle: guide, scripts, images, chart, what to serve."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath

from bundler.archive.bundle import Entry
from bundler.build.third_party import FoundChart
from bundler.closure import by_source
from bundler.jsontext import write_json
from bundler.manifest import Chart, Checkpoint, Image, Model, Release
from bundler.manifest_images import running
from bundler.sizes import size_text

_GUIDE, _CHARTS_GUIDE = "operator_guide.md", "operator_guide_charts.md"
_MODEL_FORMAT = 1


def bundle_entries(
    *,
    release: Release,
    images: Sequence[tuple[Image, Path]],
    scripts: Mapping[str, bytes],
    chart: Chart,
    chart_files: Mapping[str, bytes],
    third_party: Sequence[FoundChart] = (),
    checkpoints: Sequence[Checkpoint],
    models: Sequence[Model],
) -> list[Entry]:
    """List every file of the bundle but CONTENTS.sha256, which is made as it is written.

    Args:
        release: Which release it is.
        images: Each with its OCI archive.
        scripts: Content by the path in the spec.
        chart: Where the chart goes.
        chart_files: Its preset files, by their paths below it.
        third_party: Charts of others, which are carried as they are.
        checkpoints: Named in the guide only.
        models: What each checkpoint is served as.
    """
    sizes = {checkpoint.name: checkpoint.content_bytes for checkpoint in checkpoints}
    small = {
        "README.md": operator_guide(
            release=release,
            images=[image for image, _ in images],
            chart=chart,
            third_party=third_party,
            checkpoints=checkpoints,
            models=models,
        ),
        **{path: content for found in third_party for path, content in found.files.items()},
        **{f"{chart.path}/{path}": content for path, content in chart_files.items()},
        **{
            f"models/{model.key}.json": _model_file(model, sizes[model.checkpoint])
            for model in models
        },
    }
    return [
        *(Entry(path=path, content=content, executable=False) for path, content in small.items()),
        *(
            Entry(path=f"scripts/{PurePosixPath(path).name}", content=content, executable=True)
            for path, content in scripts.items()
        ),
        *(
            Entry(path=image.tag.archive_path, content=archive, executable=False)
            for image, archive in images
        ),
    ]


def operator_guide(
    *,
    release: Release,
    images: Sequence[Image],
    chart: Chart,
    third_party: Sequence[FoundChart] = (),
    checkpoints: Sequence[Checkpoint],
    models: Sequence[Model],
) -> bytes:
    """Fill the operator's guide with the names of one release."""
    # Models that share a checkpoint share the directory of the first of them.
    keys = {model.checkpoint: model.key for model in reversed(models)}
    texts = {
        "RELEASE": release.directory,
        "NAME": release.name,
        "VERSION": release.version,
        "CHART": chart.path,
        "CHART_VERSION": chart.version,
        "IMAGES": _table((str(i.tag), f"`{i.digest}`", _what_for(i)) for i in images),
        "CHECKPOINTS": _table(
            (f"`{c.archive}`", size_text(c.size), str(len(c.files))) for c in checkpoints
        ),
        "MODELS": _table(
            (f"`{m.key}`", m.model_name, f"`{m.model_type}`", str(m.gpus), f"`{m.checkpoint}.tar`")
            for m in models
        ),
        "VERIFY_CHECKPOINTS": "\n".join(
            f"    grep ' {c.archive}$' SHA256SUMS | sha256sum --strict -c -" for c in checkpoints
        ),
        "UNPACK_CHECKPOINTS": "\n".join(_unpack(c, keys.get(c.name, c.name)) for c in checkpoints),
        "KEY": models[0].key if models else "<model-key>",
        "EXAMPLE_VALUES": _example_values(models, keys),
        "THIRD_PARTY": _third_party(third_party, images) if third_party else "",
    }
    text = files("bundler.build").joinpath(_GUIDE).read_text(encoding="utf-8")
    for name, value in texts.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def _what_for(image: Image) -> str:
    return f"{image.kind} of `{image.subject}`" if image.subject else ", ".join(image.platforms)


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in row)} |" for row in rows)


def _unpack(checkpoint: Checkpoint, key: str) -> str:
    place = f"./checkpoints/{key}"
    return (
        f"    mkdir -p {place}\n"
        f"    tar -xf <path>/{checkpoint.archive} -C {place} --strip-components=1"
    )


def _example_values(models: Sequence[Model], keys: Mapping[str, str]) -> str:
    lines = []
    for model in models:
        lines += [
            f"      {model.key}:",
            f"        model: s3://<bucket-name>/checkpoints/{keys[model.checkpoint]}",
            f"        modelName: {json.dumps(model.model_name)}",
            f"        modelType: {model.model_type}",
            f"        gpus: {model.gpus}",
            f"        ingressHost: <{model.key}-hostname>",
        ]
    return "\n".join(lines)


def _third_party(charts: Sequence[FoundChart], images: Sequence[Image]) -> str:
    text = files("bundler.build").joinpath(_CHARTS_GUIDE).read_text(encoding="utf-8")
    return text.replace("@EACH@", "\n\n".join(_third_party_chart(one, images) for one in charts))


def _third_party_chart(found: FoundChart, images: Sequence[Image]) -> str:
    chart, find = found.chart, by_source(running(images))
    values = f" -f ./{chart.values}" if chart.values else ""
    rows = []
    for reference in found.references:
        image = find(reference)
        if image is not None:
            mine = f"`<registry-host>/{image.tag.name}@{image.digest}`"
            rows.append((f"`{reference}`", mine, f"`{image.tag.tag}`"))
    table = _table([("the chart names", "your registry has", "tag"), ("---",) * 3, *rows])
    return (
        f"**{chart.name} {chart.version}**\n\n"
        f"    helm install {found.carried.release_name} ./{chart.path}{values} -f <your-values> "
        f"--namespace <namespace>\n\n" + (table if rows else "It names no image.")
    )


def _model_file(model: Model, checkpoint_bytes: int) -> bytes:
    return write_json(
        {
            "formatVersion": _MODEL_FORMAT,
            "checkpoint": model.checkpoint,
            "checkpointBytes": checkpoint_bytes,
            "modelName": model.model_name,
            "modelType": model.model_type,
            "gpus": model.gpus,
        }
    )
