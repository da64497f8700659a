"""The folder of a training run: what lies where, what it says of the run, and whether it may be continued.

hyperparams.yaml          the resolved recipe, read as nodes with tags: nothing that it names is built
labels.json               class → row; the classes are speakers, `speaker#0.9` is that speaker at another speed
manifest.csv              and the other files of the preparation, in recipes that prepare
train_log.jsonl           one line for each logged step and each evaluation
save/                     checkpoints, and run.json: what the run was begun on
model/                    the embedder: of the best epoch so far, or the mean of the last ones
prototypes.safetensors    tensor "weight" [C, D]
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ruamel.yaml

from alpha_sv.files import InputError, atomic_write, read_json
from alpha_sv.moved import new_name
from alpha_sv.sb.recipe_yaml import read_saved

# SpeechBrain's options that change the steps of a training
_STEP_OPTIONS = {
    *("precision", "auto_mix_prec", "bfloat16_mix_prec", "eval_precision", "max_grad_norm", "skip_nonfinite_grads"),
    *("grad_accumulation_factor", "optimizer_step_limit", "remove_vector_weight_decay"),
    *("debug", "debug_batches", "debug_epochs"),
}
# keys that may change between two sittings: the machine's side of a run, and where its inputs and outputs lie (the
# data are compared themselves)
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
        """A folder with checkpoints is continued only with the settings it was begun with, or for more epochs.

        Parameters
        ----------
        resolve : callable
            The resolved recipe of the present command, for its own number of epochs (None) or another one: keys that
            are fractions of the training follow that number, and are no difference.
        run_opts : mapping
            SpeechBrain's options of the present command.
        """
        if not (self.hyperparams.is_file() and self.has_checkpoints):
            return
        old, new = _plain(read_saved(self.hyperparams))[1], _settings(resolve(None))
        before, now = (_number_of_epochs(settings) for settings in (old, new))
        if before is not None and now is not None and now > before:
            new = _settings(resolve(before))
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

    def refuse_other_data(self, manifest: str, trials: str, augmentation: str | None = None) -> None:
        """With other files or speakers a prototype would change its speaker, or a test speaker turn up in training.

        Parameters
        ----------
        manifest, trials, augmentation : str
            Hashes of the manifest, the development trials and the noises and rooms of the present command; the last is
            not compared if it is None, or unknown of the run, as of those of version 0.1.
        """
        now, before = {"manifest": manifest, "development trials": trials}, self._begun()
        if augmentation is not None and "noises and rooms" in before:
            now["noises and rooms"] = augmentation
        if not (before and self.has_checkpoints):
            return
        if changed := [name for name in now if now[name] != before.get(name)]:
            raise ValueError(
                f"{self.path} holds a run on other data (changed: {', '.join(changed)}): continuing it would mix "
                "the two. Choose another output_folder, or delete this one"
            )

    def begin(self, argv, resolved: str, run_opts: Mapping, hashes: tuple[str, str, str], labels: Mapping) -> None:
        """Write down what the run is; after every check, because from here on the folder is its own.

        `hashes` are those of `refuse_other_data`.
        """
        data = dict(zip(("manifest", "development trials", "noises and rooms"), hashes, strict=True))
        for path, content in (
            (self.hyperparams, f"# {_one_line(argv)}\n{resolved}"),
            (self.labels, json.dumps(labels, indent=0)),
            (
                self.save / "run.json",
                json.dumps({**data, "run options": step_options(run_opts)}, indent=1),
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


def _one_line(argv) -> str:
    """A command in a comment; a line break in an argument must not end it."""
    return " ".join(shlex.join(argv).splitlines())


def step_options(run_opts: Mapping) -> dict[str, object]:
    """SpeechBrain's options that were given and change the steps."""
    given = set(run_opts.get("overridden_args") or ())
    return {key: run_opts.get(key) for key in sorted(_STEP_OPTIONS & given)}


@dataclass(frozen=True)
class TrainedRun:
    """A training run; `start` is the run that its embedder was warm-started from, if it was.

    Parameters
    ----------
    loss : str
        Class and arguments, such as "QMargin (α=1.5, s=10, m=0.2)"; what the recipe leaves out is left out.
    margin : float or None
        At the end of training, in the unit of the loss.
    speakers : frozenset of str
        Those of its classes.
    """

    folder: Path
    loss: str
    margin: float | None
    speakers: frozenset[str]
    start: TrainedRun | None = None

    @property
    def heard(self) -> frozenset[str]:
        """Every speaker that ever trained this embedder, in the runs it started from too."""
        return self.speakers | self.start.heard if self.start else self.speakers

    @property
    def large_margin(self) -> bool:
        """Whether this is large-margin fine-tuning: it started from a run with a smaller margin."""
        return self.start is not None and (self.margin or 0) > (self.start.margin or 0)

    @property
    def losses(self) -> str:
        """`loss`, and the loss it started from where that is another one."""
        if self.start is None or self.loss.split()[0] == self.start.loss.split()[0]:
            return self.loss
        return f"{self.loss} from {self.start.losses}"


def read_run(folder: str | os.PathLike) -> TrainedRun:
    """Read a run's folder, and those of the runs it started from.

    Parameters
    ----------
    folder : path-like
        The output folder of a training run. A relative `warm_start` in it counts from the working folder, as in
        training.

    Raises
    ------
    ValueError
        hyperparams.yaml or labels.json is missing or damaged, here or in a run it started from: then nobody can tell
        whom the model heard.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> recipe = "loss: !new:alpha_sv.losses.QMargin {alpha: 1.5, scale: auto}\\nmargin_schedule: {final_margin: 0.2}"
    >>> _ = (folder / "hyperparams.yaml").write_text(recipe)
    >>> _ = (folder / "labels.json").write_text('{"ann": 0, "bob": 1, "ann#0.9": 2, "bob#0.9": 3}')
    >>> run = read_run(folder)
    >>> run.loss, sorted(run.heard), run.large_margin
    ('QMargin (α=1.5, s=auto, m=0.2)', ['ann', 'bob'], False)
    """
    return _read_run(Path(folder), frozenset())


def _read_run(folder: Path, later: frozenset[str]) -> TrainedRun:
    """`later` are the real paths of the runs that began with it."""
    recipe_file, labels_file = folder / "hyperparams.yaml", folder / "labels.json"
    for file in (recipe_file, labels_file):
        if not file.is_file():
            raise ValueError(f"{folder} is not the folder of a training run: {file.name} is missing; check the path")
    try:
        recipe = read_saved(recipe_file)
        margin = _margin(recipe)
        loss, start = _loss(recipe["loss"], margin), recipe.get("warm_start")
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{recipe_file} is not the resolved recipe that training writes: {error!r}") from error
    try:
        classes = read_json(labels_file, like=dict)
    except InputError as error:
        raise InputError(f"{labels_file} is not the table of classes that training writes: {error}") from error
    speakers = frozenset(re.sub(r"#[\d.]+$", "", name) for name in classes)
    later = later | {os.path.realpath(folder)}
    return TrainedRun(folder, loss, margin, speakers, _start(str(start), folder, later) if start else None)


def _start(start: str, folder: Path, later: frozenset[str]) -> TrainedRun:
    if os.path.realpath(start) in later:
        raise ValueError(f"{folder / 'hyperparams.yaml'}: warm_start {start} is a run that began with this one")
    try:
        return _read_run(Path(start), later)
    except ValueError as error:
        raise ValueError(
            f"{folder} was warm-started from {start}, whose speakers it has heard too, and {error}. Put that run back; "
            "a relative path counts from the folder in which training was started"
        ) from error


def _margin(recipe: Mapping) -> float | None:
    """What the schedule ends at; without one, the margin of the loss."""
    schedule, loss = recipe.get("margin_schedule"), recipe["loss"]
    margin = schedule.get("final_margin") if isinstance(schedule, Mapping) else None
    if margin is None and isinstance(loss, Mapping):
        margin = loss.get("margin")
    return None if margin is None else float(margin)


def _loss(node, margin: float | None) -> str:
    given = {name: node.get(key) for name, key in (("α", "alpha"), ("s", "scale"))} if isinstance(node, Mapping) else {}
    given = {**given, "m": margin}
    arguments = ", ".join(
        f"{name}={value:g}" if isinstance(value, (int, float)) else f"{name}={value}"
        for name, value in given.items()
        if value is not None
    )
    name = node.tag.value.rpartition(".")[2]
    return f"{name} ({arguments})" if arguments else name


def _settings(resolved: str) -> dict[str, object]:
    """Top-level key → what it says, as plain lists, dictionaries and (tag, value), without free settings."""
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
