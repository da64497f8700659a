"""A training run as others see it: its loss, its margin,
and every speaker that its network ever heard."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.files import InputError, read_json
from alpha_sv.sb.recipe_yaml import read_saved


@dataclass(frozen=True)
class TrainedRun:
    """A training run; `start` is the run whose embedder
    it was warm-started from, or adapted, if it was.

    Parameters
    ----------
    loss : str
        Class and arguments, such as "QMargin (α=1.5, s=10,
        m=0.2)"; what the recipe leaves out is left out.
    margin : float or None
        The margin at the end of training, in the unit of the loss.
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
        The output folder of a training run.
        A relative `warm_start` or `model` in it counts from the working folder, as in training.

    Raises
    ------
    ValueError
        hyperparams.yaml or labels.json is missing or damaged,
        here or in a run it started from: then nobody can tell whom the model heard.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> loss = "loss: !new:alpha_sv.losses.QMargin {alpha: 1.5, scale: auto}"
    >>> _ = (folder / "hyperparams.yaml").write_text(
    ...     f"{loss}\\nmargin_schedule: {{final_margin: 0.2}}"
    ... )
    >>> _ = (folder / "labels.json").write_text(
    ...     '{"ann": 0, "bob": 1, "ann#0.9": 2, "bob#0.9": 3}'
    ... )
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
        loss, start = _loss(recipe["loss"], margin), recipe.get("warm_start") or _adapted(recipe.get("model"))
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
            f"{folder} began with {start}, whose speakers it has heard too, and {error}. Put that run back; "
            "a relative path counts from the folder in which training was started"
        ) from error


def _adapted(model) -> Path | None:
    """The run that made the `model` of a fine-tuning;
    of a model from elsewhere nobody can tell whom it heard."""
    folder = Path(str(model)) if model else Path(os.devnull)
    return next((run for run in (folder, folder.parent) if (run / "labels.json").is_file()), None)


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
