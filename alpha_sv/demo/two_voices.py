"""`alpha-sv demo --verify`: a decision of the published model on two synthetic voices, in seconds.

The recordings are files of the demo corpus in which the quality rules find no fault,
under names of people: two sessions of each voice, and one recording of a third.
"""

from __future__ import annotations

import os
from pathlib import Path

from alpha_sv.demo.corpus import make_files
from alpha_sv.demo.corpus_plan import Parameters, jobs
from alpha_sv.exchange.pretrained import is_here
from alpha_sv.verify.model import load_model

CORPUS = Parameters()  # that of `make demo`
RECORDINGS = {
    "ann1": "spk061/s1/u05",
    "ann2": "spk061/s2/u10",
    "ben1": "spk060/s2/u06",
    "ben2": "spk060/s3/u07",
    "eve1": "spk072/s0/u08",
}
PAIRS = (("ann1", "ann2"), ("ben1", "ben2"), ("ann1", "ben1"))


def make_voices(folder: str | os.PathLike) -> dict[str, Path]:
    """The recordings by their names, ``<folder>/<name>.flac``; those that are there are kept.

    Raises ImportError without espeak-ng; see `build_corpus`.
    """
    folder = Path(folder)
    keys = {"/".join(path.with_suffix("").parts[-3:]): key for path, kind, key in jobs(folder, CORPUS)}
    paths = {name: folder / f"{name}.flac" for name in RECORDINGS}
    missing = [(path, "speech", keys[RECORDINGS[name]]) for name, path in paths.items() if not path.exists()]
    if missing:
        make_files(missing, CORPUS, workers=1, progress=False)
    return paths


def run_verify(output: str | os.PathLike | None = None, model: str = "campplus") -> None:
    """Print the decisions on `PAIRS` and what to do next.

    Parameters
    ----------
    output : path-like, optional
        Folder of the recordings; by default results/demo_voices.
    model : str
        The name of a published model.

    Raises
    ------
    ValueError
        The model has not been fetched; nothing is made then.
    """
    if not is_here(model):
        raise ValueError(f"the pretrained model is not here yet; fetch it with: alpha-sv models get {model}")
    folder = Path(output) if output else Path("results") / "demo_voices"
    print(f"Two synthetic voices, two sessions of each: {folder}", flush=True)
    paths = make_voices(folder)
    speaker_model = load_model(model)
    for a, b in PAIRS:
        decision = speaker_model.verify(paths[a], paths[b])
        print(f"{a} and {b}: {str(decision).removesuffix('; ' + decision.measured_on)}")
    print(f"That threshold was {decision.measured_on}.")
    a, _ = PAIRS[0]
    print(f"Yours: alpha-sv verify {paths[a]} YOUR.wav\nGalleries, thresholds, what they rest on: docs/verify.md")
