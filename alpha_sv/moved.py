"""Old import paths: a module that has moved can
still be imported by its old name, with one warning.

Recipes name classes by their path (`!new:alpha_sv.data.chunks.Augmenter`), and so do the recipes
saved in the folders of earlier runs. `install` puts a finder at the end of `sys.meta_path`, so it
is asked only for names that nothing else can import.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings

# old module → the modules that hold its names now
MOVED = {
    "alpha_sv.data.chunks": ("alpha_sv.data.audio.augment", "alpha_sv.sb.chunks"),
    "alpha_sv.data.convert": ("alpha_sv.data.corpus.convert",),
    "alpha_sv.data.corpus.development": ("alpha_sv.data.corpus.development_trials",),
    "alpha_sv.data.corpus.names": ("alpha_sv.data.corpus.name_form",),
    "alpha_sv.data.files": ("alpha_sv.files",),
    "alpha_sv.data.folders": ("alpha_sv.data.corpus.tree",),
    "alpha_sv.data.manifest": ("alpha_sv.data.corpus.manifest",),
    "alpha_sv.data.published": ("alpha_sv.data.corpus.published_split",),
    "alpha_sv.data.speed": ("alpha_sv.data.audio.speed",),
    "alpha_sv.data.splits": ("alpha_sv.data.corpus.development_trials",),
    "alpha_sv.data.stamp": ("alpha_sv.files",),
    "alpha_sv.data.synthetic": ("alpha_sv.demo.corpus",),
    "alpha_sv.data.tables": ("alpha_sv.data.trials.tables",),
    "alpha_sv.data.tar": ("alpha_sv.data.corpus.tar_shards",),
    "alpha_sv.data.training": ("alpha_sv.data.training_data",),
    "alpha_sv.data.trees": ("alpha_sv.data.corpus.prepare",),
    "alpha_sv.data.trials.columns": ("alpha_sv.data.trials.arrow_reader",),
    "alpha_sv.data.trials.names": ("alpha_sv.data.trials.name_column",),
    "alpha_sv.data.trials.plain": ("alpha_sv.data.trials.line_reader",),
    "alpha_sv.data.voxceleb": ("alpha_sv.data.corpus.voxceleb",),
    "alpha_sv.embedding.embedders": ("alpha_sv.embedding.embedder",),
    "alpha_sv.embedding.front": ("alpha_sv.embedding.frozen_front",),
    "alpha_sv.exchange.wavlm": ("alpha_sv.exchange.wavlm_weights",),
    "alpha_sv.face.corpus": ("alpha_sv.face.training_data",),
    "alpha_sv.face.tar": ("alpha_sv.face.true_accept_rates",),
    "alpha_sv.functional.active": ("alpha_sv.functional.solver", "alpha_sv.functional.newton"),
    "alpha_sv.functional.bounds": ("alpha_sv.functional.candidates", "alpha_sv.functional.newton"),
    "alpha_sv.functional.climb": ("alpha_sv.functional.newton",),
    "alpha_sv.functional.reference": ("alpha_sv.functional.plain",),
    "alpha_sv.heads.gradient": ("alpha_sv.heads.sparse",),
    "alpha_sv.heads.shards": ("alpha_sv.heads.checkpoint",),
    "alpha_sv.metrics.calibration": ("alpha_sv.metrics.cllr",),
    "alpha_sv.metrics.summary": ("alpha_sv.metrics.evaluate",),
    "alpha_sv.pipeline.calibration": ("alpha_sv.pipeline.calibrate",),
    "alpha_sv.pipeline.evaluation": ("alpha_sv.pipeline.evaluate",),
    "alpha_sv.pipeline.runs": ("alpha_sv.sb.run_folder",),
    "alpha_sv.pipeline.scores": ("alpha_sv.pipeline.score",),
    "alpha_sv.pipeline.sources": ("alpha_sv.pipeline.provenance",),
    "alpha_sv.report.calibration": ("alpha_sv.report.figures.calibration",),
    "alpha_sv.report.canvas": ("alpha_sv.report.figures.canvas",),
    "alpha_sv.report.comparison": ("alpha_sv.report.wording", "alpha_sv.report.tables"),
    "alpha_sv.report.curves": ("alpha_sv.report.figures.training",),
    "alpha_sv.report.det": ("alpha_sv.report.figures.det",),
    "alpha_sv.report.elements": ("alpha_sv.report.page",),
    "alpha_sv.report.histogram": ("alpha_sv.report.figures.histogram",),
    "alpha_sv.report.read": ("alpha_sv.report.load", "alpha_sv.metrics.schema"),
    "alpha_sv.report.reading": ("alpha_sv.report.glossary",),
    "alpha_sv.report.schema": ("alpha_sv.metrics.schema",),
    "alpha_sv.report.sections": ("alpha_sv.report.tables",),
    "alpha_sv.report.summary": ("alpha_sv.report.wording", "alpha_sv.metrics.names"),
    "alpha_sv.sb.adapted": ("alpha_sv.sb.fine_tuning",),
    "alpha_sv.scoring.crossfit": ("alpha_sv.scoring.speaker_folds",),
    "alpha_sv.scoring.sentinels": ("alpha_sv.scoring.outliers",),
    "alpha_sv.scoring.statistics": ("alpha_sv.scoring.cohort_cache",),
    "alpha_sv.scoring.support": ("alpha_sv.scoring.calibration_warnings",),
    "alpha_sv.verify.inputs": ("alpha_sv.verify.waveforms",),
}


def new_name(path: str) -> str:
    """The present path of a class by any of its paths; a YAML tag keeps what stands before it.

    >>> new_name("!new:alpha_sv.data.chunks.Augmenter"), new_name("!name:torch.optim.Adam")
    ('!new:alpha_sv.data.audio.augment.Augmenter', '!name:torch.optim.Adam')
    """
    module, _, name = path.rpartition(".")
    before, _, module = module.rpartition(":")
    if module in MOVED:
        for target in MOVED[module]:
            if hasattr(importlib.import_module(target), name):
                module = target
                break
    return f"{before}:{module}.{name}".removeprefix(":") if module else path


class _Moved(types.ModuleType):
    """A module under its old name; its attributes are looked up where they are now."""

    def __getattr__(self, name: str) -> object:
        for target in MOVED[self.__name__]:
            module = importlib.import_module(target)
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(
            f"{self.__name__} has moved to {' and '.join(MOVED[self.__name__])}; {name!r} is in neither"
        )


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec):
        # once for each old name, because Python keeps the module
        warnings.warn(f"{spec.name} is now {' and '.join(MOVED[spec.name])}", FutureWarning, stacklevel=2)
        return _Moved(spec.name)

    def exec_module(self, module) -> None:
        pass


def install() -> None:
    """Make the old names importable; calling it again changes nothing.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     from alpha_sv.data.published import write_split
    >>> write_split.__module__
    'alpha_sv.data.corpus.published_split'
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
