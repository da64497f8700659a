"""The verb in front of fine-tuning: diagnose."""

from __future__ import annotations

import argparse

from alpha_sv.cli.verbs import positive, verb

LOSSES = {"q_margin": "QMargin", "a3m": "A3M", "am": "AMSoftmax", "aam": "AAMSoftmax", "entmax": "Entmax"}


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """diagnose."""
    sub = verb(
        verbs,
        "diagnose",
        _diagnose,
        "say whether a model can be fine-tuned with a sparse loss, or would starve",
        "alpha-sv diagnose campplus exp/manifest.csv --loss q_margin --alpha 2 --scale 5",
        "Embeds the training speakers, puts a prototype at each one's mean, and counts the training samples without\n"
        "loss, with a one-hot posterior and with p_y = 0, for each published pair of scale and α and for the loss\n"
        "given, without the margin and with it. A sentence says what to do about it.",
        words=("split",),
    )
    sub.add_argument("model", help="name of a published model, model folder, SpeechBrain folder or .onnx file")
    sub.add_argument("manifest", help="manifest.csv of `prepare`")
    sub.add_argument("--loss", choices=sorted(LOSSES), default="q_margin", help="the loss that the advice is about")
    sub.add_argument("--alpha", type=float, help="its α, where it has one")
    sub.add_argument("--scale", type=float, help="its scale; by default κ/(α − 1) with κ = 5, or 32 for am and aam")
    sub.add_argument("--margin", type=float, default=0.2, help="that the training arrives at")
    sub.add_argument("--chunk-seconds", type=float, default=1.5, help="length of a training sample")
    sub.add_argument("--samples", type=positive, default=2000, help="training samples to look at, one an utterance")
    sub.add_argument("--split", choices=("train", "valid", "test"), default="train", help="of the manifest")
    sub.add_argument("--batch-size", type=positive, default=32, help="utterances of equal length at once")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _diagnose(a: argparse.Namespace) -> None:
    import json

    from alpha_sv import losses
    from alpha_sv.exchange.load import load_embedder
    from alpha_sv.sb.diagnosing import diagnose_model

    kind = LOSSES[a.loss]
    if a.alpha is not None and a.loss in ("am", "aam"):
        raise ValueError(f"--alpha {a.alpha:g}: --loss {a.loss} has α = 1; q_margin and a3m are these with another α")
    given = {name: value for name in ("alpha", "scale") if (value := getattr(a, name)) is not None}
    if a.loss not in ("am", "aam"):
        given.setdefault("scale", "auto")
    found = diagnose_model(
        load_embedder(a.model).embedder,
        a.manifest,
        getattr(losses, kind)(**given),
        a.margin,
        a.chunk_seconds,
        a.samples,
        a.split,
        a.batch_size,
    )
    print(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if a.json else found)
