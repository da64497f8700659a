"""The verbs up to the embeddings, prepare, train and extract, and the demo."""

from __future__ import annotations

import argparse

from alpha_sv.cli.verbs import positive, seed, typed, verb
from alpha_sv.device import HELP


def add_chain(verbs: argparse._SubParsersAction) -> None:
    """prepare, train, extract."""
    sub = verb(
        verbs,
        "prepare",
        _prepare,
        "scan and check trees of speech, write a manifest",
        "alpha-sv prepare wav/ --trials trials.txt --num-valid-speakers 20 -o exp/",
        "A tree is <folder>/<speaker>/<session>/<utterance>.wav (or flac, ogg, opus, mp3). Speakers of the\n"
        "trials never enter training. Damaged files are listed in audit.csv and left out.",
        words=("data_folder",),  # the manifest may lie in the tree itself
        makes=("manifest.csv", "audit.csv", "valid_trials.txt"),
    )
    sub.add_argument("data_folder", nargs="+", help="one or more trees; utterance ids are paths relative to them")
    sub.add_argument("-o", "--output", required=True, help="folder for manifest.csv, audit.csv, valid_trials.txt")
    sub.add_argument("--trials", action="append", default=[], help="test trial list; may be repeated")
    sub.add_argument(
        "--exclude-speakers", action="append", default=[], help="a speaker, or a file with one a line, to leave out"
    )
    sub.add_argument(
        "--num-valid-speakers", type=int, default=0, help="training speakers held out to make development trials from"
    )
    sub.add_argument("--like", metavar="SPLIT", help="a published split.txt.gz: take over exactly its assignment")
    sub.add_argument("--sample-rate", type=int, default=16000, help="Hz of the files; those of another are left out")
    sub.add_argument(
        "--resample", action="store_true", help="use files of another rate too, as copies in the output folder"
    )
    sub.add_argument(
        "--audit", choices=("full", "headers"), default="full", help="decode every file, or only read headers"
    )
    sub.add_argument("--seed", type=int, default=1234, help="of the choice of development speakers and trials")

    sub = verb(
        verbs,
        "train",
        lambda arguments: None,  # `main` calls `train`, because every key of the recipe is an option
        "train an embedder from a recipe",
        "alpha-sv train ecapa --data_folder=wav/ --trials=trials.txt --output_folder=exp/",
        "Every key of the YAML is an option, --key=value; `alpha-sv recipes` says where the files lie. Run it again\n"
        "after an interruption: it continues. The model is in <output_folder>/model, by default\n"
        "results/<recipe>_<loss>/<seed>/model. It computes on the first GPU if there is one; --device=cpu or cuda:1\n"
        "chooses, --precision=bf16 saves time on a GPU.",
    )
    sub.add_argument("recipe", help="a name that `alpha-sv recipes` lists, or a HyperPyYAML file")
    sub.add_argument("--trust_yaml", action="store_true", help="let the YAML build classes that are not on our list")

    sub = verb(
        verbs,
        "extract",
        _extract,
        "embed the utterances of a manifest",
        "alpha-sv extract exp/model exp/manifest.csv -o exp/embeddings",
        "Run it again after an interruption: it continues.",
        makes=("embeddings.npy", "index.csv", "meta.json"),
    )
    sub.add_argument("model", help="model folder, name of a published model, SpeechBrain folder, or .onnx file")
    sub.add_argument("manifest", help="manifest.csv of `prepare` or `train`")
    sub.add_argument("-o", "--output", required=True, help="folder of the embedding store")
    sub.add_argument("--split", choices=("train", "valid", "test"), help="only this split; all if not given")
    sub.add_argument(
        "--batch-size", type=positive, default=32, help="utterances of equal length at once; no score depends on it"
    )
    sub.add_argument("--device", help=HELP)


def add_demo(verbs: argparse._SubParsersAction) -> None:
    """demo."""
    sub = verb(
        verbs,
        "demo",
        _demo,
        "build a synthetic corpus, train on it and report, in a few minutes",
        "alpha-sv demo --loss a3m\n  alpha-sv demo --verify",
        "Needs the extra: pip install 'alpha_sv[demo]'.",
    )
    sub.add_argument(
        "--verify", action="store_true", help="instead: decisions of the published model on two voices, in seconds"
    )
    sub.add_argument("--loss", choices=("q_margin", "a3m", "am", "aam"), default="q_margin", help="to train with")
    sub.add_argument("--output", help="folder; by default results/demo, demo_<loss> or demo_voices there")
    sub.add_argument("--seed", type=seed, default=1234, help="of corpus, weights and training")


def train(argv: list[str]) -> None:
    """`alpha-sv train recipe.yaml --any_key=value ...`"""
    if not argv:
        raise ValueError("train needs a recipe, such as ecapa; `alpha-sv recipes` lists them")
    from alpha_sv.sb.experiment import run

    print(run(argv))


def _prepare(a: argparse.Namespace) -> None:
    from alpha_sv.data.corpus.prepare import prepare_tree
    from alpha_sv.files import folder_lock

    with folder_lock(a.output):
        manifest = prepare_tree(
            a.data_folder,
            a.output,
            trials=a.trials,
            exclude_speakers=a.exclude_speakers,
            num_valid_speakers=a.num_valid_speakers,
            sample_rate=a.sample_rate,
            audit=a.audit,
            seed=a.seed,
            like=a.like,
            resample=a.resample,
        )
    print(manifest)


def _extract(a: argparse.Namespace) -> None:
    from alpha_sv.data.corpus.manifest import read_manifest
    from alpha_sv.device import device_for
    from alpha_sv.embedding.extract import extract
    from alpha_sv.exchange.load import load_embedder
    from alpha_sv.pipeline.provenance import source, store_note

    utterances, model = read_manifest(a.manifest, split=a.split), load_embedder(a.model)
    made_of = {"model": source(model.weights, f"{model.name}/{model.weights.name}")}
    device, note = device_for(model.embedder, a.device), store_note(made_of, [typed(a)])
    store = extract(model.embedder, utterances, a.output, a.batch_size, device, finished=note)
    print(store.path)


def _demo(a: argparse.Namespace) -> None:
    if a.verify:
        from alpha_sv.demo.two_voices import run_verify

        run_verify(a.output)
    else:
        from alpha_sv.demo.run import run_demo

        run_demo(a.loss, a.output, a.seed)
