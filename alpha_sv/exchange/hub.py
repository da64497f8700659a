"""The layout of the Hugging Face Hub:
a model folder that says in README.md what it is, and loads as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.files import atomic_write, read_json

_UNKNOWN = "Not stated by whoever exported this model."


def write_hub(
    embedder: SpeakerEmbedder,
    folder: str | os.PathLike,
    *,
    name: str | None = None,
    metrics: str | os.PathLike | None = None,
    trained_on: str | None = None,
    licence: str | None = None,
    calibrator: str | os.PathLike | None = None,
) -> Path:
    """Write `embedder.safetensors`, `config.json`,
    the calibrator if there is one, and a model card.

    Parameters
    ----------
    name : str, optional
        Of the model, for its card; by default that of the folder.
    metrics : path-like, optional
        metrics.json of `alpha-sv evaluate`.
    trained_on, licence : str, optional
        In words; the card says so where they are not given.

    Raises
    ------
    ValueError
        `metrics` is no metrics.json.
    """
    folder = Path(folder)
    rows = _metric_rows(metrics) if metrics else []
    config = embedder.config
    name = name or folder.resolve().name
    card = f"""\
---
library_name: alpha_sv
pipeline_tag: audio-classification
tags: [speaker-verification, speaker-recognition, speaker-embeddings, {config["architecture"].replace("_", "-")}]
license: {json.dumps(licence or "unknown")}
---

# {name}

A speaker embedder: {config["architecture"]}, {sum(p.numel() for p in embedder.parameters()) / 1e6:.2f} M parameters,
{embedder.embedding_dim} dimensions, {embedder.sample_rate} Hz, {config["n_mels"]} mel bands
({config.get("features", "speechbrain")} features).

## Use

```python
import alpha_sv

model = alpha_sv.load_model("path/to/this/folder")
embeddings = model.embed(["a.wav", "b.wav"])
```

Utterances are embedded whole. Compare two embeddings by their cosine; a threshold must be measured on recordings like
those it will judge (`alpha-sv calibrate`).

## Training data

{trained_on or _UNKNOWN}

## Licence

{licence or _UNKNOWN}

## Error rates

{chr(10).join(rows) if rows else "None were given. `alpha-sv evaluate` measures them, with intervals."}
"""
    embedder.save(folder)
    if calibrator:
        with atomic_write(folder / "calibrator.json") as file:
            file.write(Path(calibrator).read_text(encoding="utf-8"))
    with atomic_write(folder / "README.md") as file:
        file.write(card)
    return folder


def _metric_rows(path: str | os.PathLike) -> list[str]:
    """A Markdown table of what a metrics.json says of each of its systems."""
    try:
        content = read_json(path, like={"systems": [dict]})
        rows = ["| system | trials | EER (95 % interval) | minDCF 0.01 |", "|:--|--:|--:|--:|"]
        for system in content["systems"]:
            trials = f"{system['trials']['target']:,} + {system['trials']['nontarget']:,}"
            low, high = (system.get("intervals") or {}).get("eer", (None, None))
            interval = "" if low is None else f" ({100 * low:.2f} to {100 * high:.2f})"
            dcf = next((f"{e['value']:.3f}" for e in system["min_dcf"] if e["p_target"] == 0.01), "")
            rows.append(f"| {system['name']} | {trials} | {100 * system['eer']['value']:.2f} %{interval} | {dcf} |")
        return rows
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a metrics.json of `alpha-sv evaluate`: {error!r}") from error
