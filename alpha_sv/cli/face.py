"""The verb face: pairs of images, the template protocol
of IJB-B / IJB-C, TAR at FAR, and published checkpoints."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from alpha_sv.cli.verbs import not_negative, positive, typed, verb
from alpha_sv.device import HELP


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """face pairs, face templates, face tar, face convert."""
    parent = verbs.add_parser("face", help="verify faces: pairs, templates, TAR at FAR", description="Faces.")
    inner = parent.add_subparsers(dest="action", required=True, metavar="ACTION")

    sub = verb(
        inner,
        "pairs",
        _pairs,
        "score pairs of aligned faces",
        "alpha-sv face pairs exp/model lfw.bin -o scores.txt",
        "PAIRS is lfw.bin, cfp_fp.bin, agedb_30.bin, or a trial list over --images. Then: alpha-sv evaluate scores.txt",
    )
    _add_model(sub)
    sub.add_argument("pairs", help="a .bin of insightface, or lines of 'label image image'")
    sub.add_argument("--images", help="folder <identity>/<image> that a list is over")
    sub.add_argument("-o", "--output", required=True, help="scores file")
    sub.add_argument("--no-flip", action="store_true", help="do not add the embedding of the mirror image")

    sub = verb(
        inner,
        "templates",
        _templates,
        "run the 1:1 template protocol of IJB-B or IJB-C",
        "alpha-sv face templates exp/model IJBC/ -o exp/ijbc",
        "Reads loose_crop/ and meta/ of one set. Each choice of the protocol moves the result; the table states them.\n"
        "Embeddings are kept, so another choice costs minutes; an interrupted run continues.",
    )
    _add_model(sub)
    sub.add_argument("folder", help="folder of one set, such as IJBC")
    sub.add_argument("-o", "--output", required=True, help="folder for embeddings/, tar.json and tar.md")
    sub.add_argument("--scores", help="also write all scores here, for evaluate and compare (0.7 GB for IJB-C)")
    sub.add_argument("--no-flip", action="store_true", help="do not add the embedding of the mirror image")
    sub.add_argument("--no-norm", action="store_true", help="scale the embedding of each image to length one first")
    sub.add_argument("--no-detector-score", action="store_true", help="do not weigh images by the detector's score")
    sub.add_argument("--no-media-average", action="store_true", help="count each frame of a video as a picture")
    _add_replicates(sub)

    sub = verb(
        inner,
        "tar",
        _tar,
        "TAR at FAR 1e-6 ... 1e-1 of scores files",
        "alpha-sv face tar cosface=a/scores.txt q_margin=b/scores.txt",
    )
    sub.add_argument("scores", nargs="+", help="scores file with labels, or name=file")
    sub.add_argument("--speakers", help="who is who; by default the first part of an image's name")
    _add_replicates(sub)

    sub = verb(
        inner,
        "convert",
        _convert,
        "make a model folder of one of insightface's PyTorch checkpoints",
        "alpha-sv face convert ms1mv3_arcface_r50/backbone.pth -o models/arcface_r50",
    )
    sub.add_argument("checkpoint", help="state dict of an iresnet; only tensors are read")
    sub.add_argument("-o", "--output", required=True, help="model folder")


def _add_model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", help="model folder of `alpha-sv train` or of `face convert`")
    sub.add_argument("--batch-size", type=positive, default=64, help="images at once; no score depends on it")
    sub.add_argument("--device", help=HELP)


def _add_replicates(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--replicates", type=not_negative, default=1000, help="resamplings of persons; 0: no intervals")


def _embedder(a: argparse.Namespace):
    from alpha_sv.device import pick_device
    from alpha_sv.face.embedder import FaceEmbedder

    return FaceEmbedder.load(a.model).to(pick_device(a.device))


def _pairs(a: argparse.Namespace) -> None:
    from alpha_sv.face.evaluate import fold_accuracy, score_images
    from alpha_sv.pipeline.provenance import save_scores, source

    made_from = {"model": source(Path(a.model, "embedder.safetensors")), "trials": source(a.pairs)}
    table = score_images(_embedder(a), a.pairs, a.images, not a.no_flip, a.batch_size)
    save_scores(a.output, table, made_from, [typed(a)])
    if a.pairs.endswith(".bin") and len(table) >= 10:
        print("accuracy over 10 folds {:.2f} % ± {:.2f}".format(*(100 * value for value in fold_accuracy(table))))
    print(a.output)


def _templates(a: argparse.Namespace) -> None:
    from tqdm import tqdm

    from alpha_sv.data.trials import ScoreTable, write_scores
    from alpha_sv.face.evaluate import embed_protocol, template_trials
    from alpha_sv.face.ijb import read_protocol
    from alpha_sv.face.templates import TemplateRule, pool_templates, score_pairs
    from alpha_sv.face.true_accept_rates import markdown, tar_table
    from alpha_sv.files import atomic_write

    if a.scores and os.path.exists(a.scores):
        inside = os.path.commonpath([os.path.realpath(a.folder), os.path.realpath(a.scores)])
        if inside == os.path.realpath(a.folder):
            raise ValueError(f"the output {a.scores} lies in {a.folder}, which is read; give --scores another name")
    rule = TemplateRule(not a.no_flip, not a.no_norm, not a.no_detector_score, not a.no_media_average)
    protocol = read_protocol(a.folder)
    store = embed_protocol(_embedder(a), protocol, Path(a.output, "embeddings"), a.batch_size)
    embeddings = store.matrix.reshape(len(protocol.images), 2, -1)
    templates = pool_templates(embeddings, protocol.template, protocol.media, protocol.detector, rule)
    scores = score_pairs(templates, protocol.left, protocol.right)
    persons, reason = None, None
    if a.replicates:
        try:
            who = protocol.identities()
            persons = who[protocol.left], who[protocol.right]
        except ValueError as error:
            reason = str(error)
    table = tar_table(scores, protocol.labels, persons, a.replicates, progress=lambda draws: tqdm(draws, disable=None))
    table = {**table, "no_intervals": reason or table["no_intervals"], "protocol": rule.describe(), "command": typed(a)}
    text = markdown({Path(a.model).resolve().parent.name: table}, rule.describe())
    for name, content in (("tar.json", json.dumps(table, indent=1)), ("tar.md", text)):
        with atomic_write(Path(a.output, name)) as file:
            file.write(f"{content}\n")
    if a.scores:
        trials = template_trials(protocol)
        write_scores(a.scores, ScoreTable(*trials.sides, scores, trials.labels))
    print(text)


def _tar(a: argparse.Namespace) -> None:
    from alpha_sv.cli.evaluation import _named
    from alpha_sv.face.true_accept_rates import markdown, tar_table
    from alpha_sv.pipeline.evaluate import load_systems
    from alpha_sv.pipeline.speakers import numbered_speakers

    systems = load_systems([("", given) if Path(given).exists() else _named(given) for given in a.scores])
    persons = None
    if a.replicates:
        _, *persons = numbered_speakers(systems.trials, a.speakers)
    labels = systems.trials.labels
    rows = zip(systems.names, systems.scores, strict=True)
    print(markdown({name: tar_table(scores, labels, persons, a.replicates) for name, scores in rows}))


def _convert(a: argparse.Namespace) -> None:
    from alpha_sv.face.embedder import from_insightface

    from_insightface(a.checkpoint).save(a.output)
    print(a.output)
