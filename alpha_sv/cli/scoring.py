"""The verbs from embeddings to scores: score, normalize, calibrate."""

from __future__ import annotations

import argparse
import json
import logging
import os

from alpha_sv.cli.streams import deliver
from alpha_sv.cli.verbs import positive, refuse_idle, typed, verb

logger = logging.getLogger(__name__)
_COHORT = ("cohort", "cohort_split", "cohort_unit", "top_n", "cache")
NORMS = ("as-norm", "s-norm", "z-norm", "t-norm")


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """score, normalize, calibrate."""
    sub = verb(
        verbs,
        "score",
        _score,
        "score the trials of a list by the cosine of their embeddings",
        "alpha-sv score exp/embeddings trials.txt -o exp/scores.txt",
        "With --norm, score and normalize in one step.",
        reads=("trials", "models"),
        words=("layout", "cohort_split", "cache"),
    )
    sub.add_argument("embeddings", help="embedding store")
    sub.add_argument("trials", help="trial list: VoxCeleb (1 a b), Kaldi (a b target), bare (a b), or with a header")
    sub.add_argument("-o", "--output", required=True, help="scores file: enroll test score target|nontarget")
    sub.add_argument("--layout", help="name of the layout of the trial list, if it can be read in two ways")
    sub.add_argument("--norm", choices=("none", *NORMS), default="none", help="normalisation, see normalize")
    _add_models(sub)
    sub.add_argument(
        "--model-average",
        choices=("mean", "score"),
        default="mean",
        help="of a model's normalised embeddings, or of the scores of its utterances",
    )
    _add_cohort(sub)

    sub = verb(
        verbs,
        "normalize",
        _normalize,
        "normalise cosine scores against a cohort of strangers",
        "alpha-sv normalize exp/scores.txt --embeddings exp/embeddings --top-n 300 -o exp/scores_as_norm.txt",
        reads=("scores", "models"),
        words=("layout", "cohort_split", "cache"),
    )
    sub.add_argument("scores", help="scores file of cosines")
    sub.add_argument("--embeddings", required=True, help="embedding store of the utterances in the trials")
    sub.add_argument("-o", "--output", required=True, help="scores file, in standard deviations")
    sub.add_argument("--layout", help="name of the layout of the scores file, if it can be read in two ways")
    sub.add_argument("--method", choices=NORMS, default=NORMS[0], help="all but as-norm use the whole cohort")
    _add_models(sub)
    _add_cohort(sub)

    sub = verb(
        verbs,
        "calibrate",
        _calibrate,
        "fit a calibrator to development scores, or apply one: scores become log-likelihood ratios",
        "alpha-sv calibrate dev_scores.txt --trials dev_trials.txt -o calibrator.json\n"
        "  alpha-sv calibrate scores.txt --calibrator calibrator.json -o llrs.txt",
        "Without --calibrator it fits one, writes it, and prints how it does on speakers it has not heard; with it,\n"
        "it applies it, and prints the errors at its thresholds if the scores are labelled. The ratios are\n"
        "natural-log; a calibrator is for scores of the kind it was fitted to, with the same qualities.",
        reads=("scores", "trials", "calibrator", "speakers"),
        words=("layout", "cohort_split", "cache"),
    )
    sub.add_argument("scores", help="scores file")
    sub.add_argument(
        "-o", "--output", required=True, help="calibrator.json; with --calibrator, the scores file of LLRs"
    )
    sub.add_argument("--calibrator", help="calibrator.json to apply")
    sub.add_argument("--trials", help="labelled trial list, for scores without labels")
    sub.add_argument("--layout", help="name of the layout of the scores file, if it can be read in two ways")
    sub.add_argument(
        "--speakers",
        help="manifest.csv or utt2spk that says who speaks; by default the first part of an utterance's name",
    )
    sub.add_argument(
        "--qualities",
        action="append",
        default=[],
        metavar="FILE",
        help="manifest.csv: durations as quality measures; embedding store: cohort statistics; may be repeated",
    )
    sub.add_argument("--p-target", type=float, default=0.01, help="prior at which the fit weighs errors")
    sub.add_argument("--folds", type=positive, default=5, help="groups of speakers in the cross-calibration")
    sub.add_argument(
        "--kind", metavar="NAME", help="what the scores are, such as cosine; by default as noted beside them"
    )
    sub.add_argument("--any-scores", action="store_true", help="apply to scores of another kind or model")
    sub.add_argument("--allow-inverted", action="store_true", help="fit scores that are lower for the same speaker")
    sub.add_argument("--json", action="store_true", help="print the numbers of a fit as JSON instead of a table")
    _add_cohort(sub)


def _add_models(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--models", help="enrolment models, lines of 'model utterance utterance ...' (spk2utt)")


def _add_cohort(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("cohort")
    group.add_argument("--cohort", help="embedding store of the cohort; by default that of the trials")
    group.add_argument("--cohort-split", default="train", help="the split of the cohort store to use")
    group.add_argument(
        "--cohort-unit", choices=("speaker", "utterance"), default="speaker", help="one cohort entry (a mean) per"
    )
    group.add_argument(
        "--top-n",
        type=positive,
        help="nearest cohort entries per utterance, for as-norm; by default 300, or all of a smaller cohort",
    )
    group.add_argument("--cache", metavar="FOLDER", help="keep finished blocks here: a run that was killed continues")


def _refuse_top_n(a: argparse.Namespace, option: str) -> None:
    if (norm := getattr(a, option)) not in ("none", "as-norm"):
        refuse_idle(a, ["top_n"], f"with --{option} {norm}, which uses the whole cohort")


def _cohort(a: argparse.Namespace, store, trials, models=None):
    """The cohort as a matrix, and as a source; `--top-n` becomes a number."""
    from alpha_sv.embedding.store import EmbeddingStore
    from alpha_sv.pipeline.score import cohort_matrix, cohort_source, trial_speakers
    from alpha_sv.scoring import default_top_n

    origin = EmbeddingStore.open(a.cohort) if a.cohort else store
    choice = {"split": a.cohort_split, "per_speaker": a.cohort_unit == "speaker"}
    strangers_to = trial_speakers(store, trials, models)
    cohort = cohort_matrix(origin, strangers_to=strangers_to, **choice)
    if a.top_n is None and _norm(a) in ("as-norm", None):
        a.top_n = default_top_n(len(cohort))
    return cohort, cohort_source(origin, **choice)


def _norm(a: argparse.Namespace) -> str | None:
    return getattr(a, "norm", getattr(a, "method", None))


def _kind(a: argparse.Namespace) -> str:
    """What `score` and `normalize` write, see `alpha_sv.pipeline.provenance.scores_kind`."""
    return {"none": "cosine", "as-norm": f"as-norm top {a.top_n}"}.get(_norm(a), _norm(a))


def _score(a: argparse.Namespace) -> None:
    from alpha_sv.data.trials.files import read_trials
    from alpha_sv.embedding.store import EmbeddingStore
    from alpha_sv.pipeline.provenance import read_sources, source
    from alpha_sv.pipeline.score import score_store
    from alpha_sv.scoring import read_models

    if a.norm == "none":
        refuse_idle(a, _COHORT, "without --norm")
    _refuse_top_n(a, "norm")
    if not a.models:
        refuse_idle(a, ["model_average"], "without --models")
    store, trials = EmbeddingStore.open(a.embeddings), read_trials(a.trials, a.layout)
    models = read_models(a.models) if a.models else None
    sources, commands = read_sources(store.path / "embeddings.npy")
    sources["trials"], cohort = source(a.trials), None
    if a.norm != "none":
        cohort, sources["cohort"] = _cohort(a, store, trials, models)
    table = score_store(store, trials, cohort, a.norm, a.top_n, models=models, average=a.model_average, cache=a.cache)
    _deliver_scores(a, table, sources, commands, _kind(a))


def _normalize(a: argparse.Namespace) -> None:
    from alpha_sv.data.trials.files import read_scores
    from alpha_sv.embedding.store import EmbeddingStore
    from alpha_sv.pipeline.provenance import read_sources
    from alpha_sv.scoring import mean_models, normalize_table, read_models

    _refuse_top_n(a, "method")
    store, table = EmbeddingStore.open(a.embeddings), read_scores(a.scores, a.layout)
    models = read_models(a.models) if a.models else None
    cohort, found = _cohort(a, store, table, models)
    space = mean_models(table, store, models) if models else store
    sources, commands = read_sources(a.scores)
    normed = normalize_table(table, space, cohort, a.method, a.top_n, a.cache)
    _deliver_scores(a, normed, {**sources, "cohort": found}, commands, _kind(a))


def _calibrate(a: argparse.Namespace) -> None:
    from alpha_sv.data.trials.files import label_scores, read_scores, read_trials
    from alpha_sv.pipeline.calibrate import errors_at_points, points_text, refuse_other_scores, warn_of_other_range
    from alpha_sv.pipeline.provenance import read_sources, scores_kind, source
    from alpha_sv.scoring import Calibrator

    if a.calibrator:
        refuse_idle(a, ["p_target", "folds", "speakers", "allow_inverted"], "with --calibrator: nothing is fitted")
    else:
        refuse_idle(a, ["any_scores"], "without --calibrator")
    if lacking := [path for path in a.qualities if path != "-" and not os.path.exists(path)]:
        raise ValueError(f"--qualities {lacking[0]}: no such file or folder")
    if not any(map(os.path.isdir, a.qualities)):
        refuse_idle(a, _COHORT, "without an embedding store in --qualities")
    table, (sources, commands) = read_scores(a.scores, a.layout), read_sources(a.scores)
    if a.trials:
        table, sources["trials"] = label_scores(table, read_trials(a.trials)), source(a.trials)
    if a.calibrator:
        calibrator, given = Calibrator.load(a.calibrator), source(a.calibrator)
        if source(a.scores)["sha256"] in str(calibrator.provenance):
            given["file"] += ", fitted to these very scores"
            logger.warning(
                "%s was fitted to these very scores, so their LLRs look better calibrated than those of other speakers "
                "will be; the honest numbers are the cross-calibrated ones of the fit",
                a.calibrator,
            )
        if not a.any_scores:
            refuse_other_scores(calibrator, sources, a.kind or scores_kind(a.scores))
        warn_of_other_range(calibrator, table.scores)
        llrs = calibrator.apply(table, _qualities(a, table))
        _deliver_scores(a, llrs, {**sources, "calibrator": given}, commands, "llr")
        if llrs.labels is not None and calibrator.points and a.output != "-":
            points = errors_at_points(calibrator, llrs)
            print(json.dumps(points) if a.json else points_text(points))
    else:
        _fit(a, table, {**sources, "scores": source(a.scores)}, commands)


def _fit(a: argparse.Namespace, table, sources: dict, commands: list[str]) -> None:
    from alpha_sv.pipeline.calibrate import calibration_text, fit_calibrator
    from alpha_sv.pipeline.provenance import scores_kind
    from alpha_sv.pipeline.speakers import numbered_speakers

    if table.labels is None:
        raise ValueError(f"{a.scores} has no labels to fit to; give the labelled trial list with --trials")
    _, *speakers = numbered_speakers(table, a.speakers)
    calibrator, unheard = fit_calibrator(
        table,
        speakers,
        _qualities(a, table),
        p_target=a.p_target,
        folds=a.folds,
        kind=a.kind or scores_kind(a.scores),
        allow_inverted=a.allow_inverted,
        provenance={"sources": sources, "commands": [*commands, typed(a)]},
    )
    deliver(a.output, calibrator.save)
    if a.json and a.output != "-":
        print(json.dumps(calibrator.provenance["cross_calibrated"]))
    elif a.output != "-":
        print(calibration_text(calibrator, unheard))


def _qualities(a: argparse.Namespace, table) -> dict:
    from alpha_sv.pipeline.calibrate import manifest_durations

    stores = [path for path in a.qualities if os.path.isdir(path)]
    if len(stores) > 1:
        raise ValueError(f"--qualities takes one embedding store, got {', '.join(stores)}")
    manifests = [path for path in a.qualities if path not in stores]
    found = manifest_durations(table, manifests) if manifests else {}
    if stores:
        from alpha_sv.embedding.store import EmbeddingStore
        from alpha_sv.scoring import cohort_qualities, trial_statistics

        store = EmbeddingStore.open(stores[0])
        cohort, _ = _cohort(a, store, table)
        found |= cohort_qualities(*trial_statistics(table, store, cohort, a.top_n, cache=a.cache))
    return found


def _deliver_scores(a: argparse.Namespace, table, sources: dict, commands: list[str], kind: str) -> None:
    from alpha_sv.pipeline.provenance import save_scores

    deliver(a.output, lambda path: save_scores(path, table, sources, [*commands, typed(a)], kind))
