"""Recipe YAML that cannot run arbitrary code.

HyperPyYAML builds whatever a file names: `!apply:os.system [rm -rf ~]` runs. `load_recipe` first walks the tags, without
building anything, and refuses a file that names something outside the list below. Who wrote the file and wants their
own classes in it says so with `--trust_yaml`.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from hyperpyyaml import load_hyperpyyaml

CONSTRUCTIBLE = {
    "alpha_sv": {
        "embedding.embedders.SpeakerEmbedder",
        "data.chunks.Augmenter",
        "heads.CosineHead",
        "losses.NormSoftmax",
        "losses.AMSoftmax",
        "losses.AAMSoftmax",
        "losses.Sparsemax",
        "losses.Entmax",
        "losses.QMargin",
        "losses.A3M",
        "losses.MarginLoss",
        "schedule.MarginSchedule",
        "sb.checkpointer.SafeCheckpointer",
    },
    "speechbrain": {
        "nnet.schedulers.WarmAndExpDecayLRSchedule",
        "nnet.schedulers.CyclicLRScheduler",
        "utils.epoch_loop.EpochCounter",
    },
    "torch": {"optim.Adam", "optim.AdamW", "optim.SGD"},
}
_HARMLESS_TAGS = {"!ref", "!copy", "!tuple", "!PLACEHOLDER", "!!str", "!!int", "!!float", "!!bool", "!!null"}
_HARMLESS_TAGS |= {"!apply:speechbrain.utils.seed_everything", "!apply:torch.manual_seed"}
_BUILDING_TAGS = ("!new:", "!name:")


def check_recipe(text: str, name: str = "recipe") -> None:
    """Refuse YAML text with a tag that builds anything outside `CONSTRUCTIBLE`, or includes another file.

    Raises
    ------
    ValueError
        Naming file, line and tag.

    Example
    -------
    >>> check_recipe("loss: !new:alpha_sv.losses.QMargin")
    >>> check_recipe("x: !apply:os.system [ls]")
    Traceback (most recent call last):
    ...
    ValueError: recipe, line 1: '!apply:os.system' is not something a recipe may run or build; if you wrote this file or trust its author, add --trust_yaml=True
    """
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.DirectiveToken) and token.name == "TAG":
            tag = "%TAG"  # it could give a harmless tag another meaning
        elif isinstance(token, yaml.TagToken):
            tag = (token.value[0] or "") + token.value[1]
        else:
            continue
        target = next((tag[len(prefix) :] for prefix in _BUILDING_TAGS if tag.startswith(prefix)), "")
        package, _, rest = target.partition(".")
        if tag in _HARMLESS_TAGS or rest in CONSTRUCTIBLE.get(package, ()):
            continue
        raise ValueError(
            f"{name}, line {token.start_mark.line + 1}: {tag!r} is not something a recipe may run or build; "
            "if you wrote this file or trust its author, add --trust_yaml=True"
        )


def load_recipe(path: str | os.PathLike, overrides: str | dict = "", trust_yaml: bool = False) -> dict:
    """Check and load a recipe; command-line overrides win.

    Parameters
    ----------
    path : path-like
        A HyperPyYAML file.
    overrides : str or dict
        As `speechbrain.parse_arguments` returns them. They come from the user's own command line.
    trust_yaml : bool
        Skip the check.
    """
    text = Path(path).read_text(encoding="utf-8")
    if not trust_yaml:
        check_recipe(text, str(path))
    return load_hyperpyyaml(text, overrides)
