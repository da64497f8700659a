"""The folder of a training run: what lies where,
what it says of the run, and whether it may be continued.

hyperparams.yaml        the resolved recipe, read as nodes with tags: nothing that it names is built
labels.json             class → row; a class is a speaker, `speaker#0.9` one at another speed
manifest.csv            and the other files of the preparation, in recipes that prepare
train_log.jsonl         one line for each logged step and each evaluation
save/                   checkpoints, and run.json: what the run was begun on
model/                  the embedder: of the best epoch so far, or the mean of the last ones
prototypes.safetensors  tensor "weight" [C, D]
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import ruamel.yaml

from alpha_sv.files import InputError, atomic_write, read_json
from alpha_sv.moved import new_name
from alpha_sv.sb.recipe_yaml import read_saved
from alpha_sv.sb.trained_run import TrainedRun, read_run  # noqa: F401  where they were until version 0.1

# SpeechBrain's options that change the steps of a training
_STEP_OPTIONS = {
    *("precision", "auto_mix_prec", "bfloat16_mix_prec", "eval_precision", "max_grad_norm", "skip_nonfinite_grads"),
    *("grad_accumulation_factor", "optimizer_step_limit", "remove_vector_weight_decay"),
    *("debug", "debug_batches", "debug_epochs"),
}
# keys that may change between two sittings: the machine's side of a run,
# and where its inputs and outputs lie (the data are compared themselves)
_FREE_SETTINGS = {
    *("num_workers", "log_interval", "ckpt_interval_minutes", "ckpt_interval_steps"),
    *("output_folder", "checkpointer", "data_folder", "trials", "valid_trials", "exclude_speakers"),
    *("prepared", "tensorboard", "epoch_counter", "front_cache", "diagnose"),
}
_FREE_BUT_GIVEN = {"noise_folder", "rir_folder"}  # forgotten on resuming, the rest of the run would be without them


class RunFolder:
    """Where the files of a run lie, and whether a command continues the run that was begun there.

    Example
    -------
    >>> RunFolder("results/ecapa_q_margin/1234").model.as_posix()
    'results/ecapa_q_margin/1234/model'
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.hyperparams, self.labels = self.path / "hyperparams.yaml", self.path / "labels.json"
        self.model, self.prototypes = self.path / "model", self.path / "prototypes.safetensors"
        self.log, self.save, self.events = self.path / "train_log.jsonl", self.path / "save", self.path / "tensorboard"

    @property
    def has_checkpoints(self) -> bool:
        return any(self.save.glob("CKPT*"))

    def refuse_other_settings(self, resolve: Callable[[int | None], str], run_opts: Mapping) -> None:
        """A folder with checkpoints is continued only with
        the settings it was begun with, or for more epochs.

        Parameters
        ----------
        resolve : callable
            The resolved recipe of the present command, for its own number of epochs
            (None) or another one: keys that are fractions of the training follow that
            number, and are no difference.
        run_opts : mapping
            SpeechBrain's options of the present command.
        """
        if not (self.hyperparams.is_file() and self.has_checkpoints):
            return
        old, new = _plain(read_saved(self.hyperparams))[1], _settings(resolve(None))
        before, now = (_number_of_epochs(settings) for settings in (old, new))
        if before is not None and now is not None and now > before:
            new = _settings(resolve(before))
        old, new = {**old, "head": self.begun_head()}, dict(new)
        if (asked := new.get("head", ("", ""))[1]) == "auto" or same_head(asked, old["head"]):
            new["head"] = old["head"]
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        begun = self._begun().get("run options")
        if begun is not None:
            given = step_options(run_opts)
            changed |= {f"--{key}" for key in begun.keys() | given.keys() if begun.get(key) != given.get(key)}
        if changed:
            raise ValueError(
                f"{self.path} holds a run with other settings ({', '.join(sorted(changed))}): continuing it would mix "
                f"the two. Choose another output_folder, delete this one, or continue the run as it was begun with "
                f"{self.hyperparams} as the recipe"
            )

    def begun_head(self) -> str | None:
        """The head of a run that has checkpoints:
        as was noted, or, until version 0.1, as its recipe says."""
        if not self.has_checkpoints:
            return None
        noted = self._begun().get("head")
        if noted is None and self.hyperparams.is_file():
            noted = _plain(read_saved(self.hyperparams))[1].get("head", (None, None))[1]
        return noted

    def refuse_other_data(self, manifest: str, trials: str, augmentation: str | None = None, samples: str = "") -> None:
        """With other files or speakers a prototype would change its speaker,
        or a test speaker turn up in training.

        Parameters
        ----------
        manifest, trials, augmentation, samples : str
            Hashes of the manifest, the development trials, the noises and rooms, and the samples of
            the present command. The last two are compared only where both are known: the run may be
            one of version 0.1, or its files were not decoded, or by another version of the decoder.
        """
        now, before = {"manifest": manifest, "development trials": trials}, self._begun()
        if augmentation is not None and "noises and rooms" in before:
            now["noises and rooms"] = augmentation
        decoder, known = samples.partition(" ")[0], str(before.get("audio") or "")
        if samples and known.startswith(f"{decoder} "):
            now["audio"] = samples
        if not (before and self.has_checkpoints):
            return
        if changed := [name for name in now if now[name] != before.get(name)]:
            raise ValueError(
                f"{self.path} holds a run on other data (changed: {', '.join(changed)}): continuing it would mix "
                "the two. Choose another output_folder, or delete this one"
            )

    def begin(
        self, argv, resolved: str, run_opts: Mapping, hashes: tuple[str, ...], labels: Mapping, head: str
    ) -> None:
        """Write down what the run is; after every check,
        because from here on the folder is its own.

        `hashes` are those of `refuse_other_data`.
        """
        data = dict(zip(("manifest", "development trials", "noises and rooms", "audio"), hashes, strict=True))
        for path, content in (
            (self.hyperparams, f"# {_one_line(argv)}\n{resolved}"),
            (self.labels, json.dumps(labels, indent=0)),
            (
                self.save / "run.json",
                json.dumps({**data, "head": head, "run options": step_options(run_opts)}, indent=1),
            ),
        ):
            with atomic_write(path) as file:
                file.write(content)

    def _begun(self) -> dict:
        for name, like in (("run.json", {"run options": dict}), ("data.json", dict)):  # the second until version 0.1
            if (file := self.save / name).is_file():
                try:
                    return read_json(file, like, finite=False)
                except InputError as error:
                    raise InputError(f"{file} is damaged ({error}); choose another output_folder") from error
        return {}


def same_head(one: str, other: str) -> bool:
    """Whether a run with one head may go on with the other.

    >>> same_head("sparse", "sharded"), same_head("dense", "sparse")
    (True, False)
    """
    return one == other or {one, other} == {"sparse", "sharded"}


def _one_line(argv) -> str:
    """A command in a comment; a line break in an argument must not end it."""
    return " ".join(shlex.join(argv).splitlines())


def step_options(run_opts: Mapping) -> dict[str, object]:
    """SpeechBrain's options that were given and change the steps."""
    given = set(run_opts.get("overridden_args") or ())
    return {key: run_opts.get(key) for key in sorted(_STEP_OPTIONS & given)}


def _settings(resolved: str) -> dict[str, object]:
    """Top-level key → what it says, as plain lists,
    dictionaries and (tag, value), without free settings."""
    return _plain(ruamel.yaml.YAML().load(resolved))[1]


def _plain(node, key: str = ""):
    if key in _FREE_BUT_GIVEN:
        return "given" if node not in (None, "") else ""
    tag = new_name(str(getattr(getattr(node, "tag", None), "value", None)))
    if isinstance(node, dict):
        return tag, {name: _plain(value, name) for name, value in node.items() if name not in _FREE_SETTINGS}
    if isinstance(node, list):
        return tag, [_plain(value) for value in node]
    return tag, str(getattr(node, "value", node))


def _number_of_epochs(settings: Mapping) -> int | None:
    text = settings.get("number_of_epochs")
    return int(text[1]) if isinstance(text, tuple) and text[1].isdecimal() else None
