"""Recipe YAML that cannot run arbitrary code.

HyperPyYAML builds whatever a file names: `!apply:os.system [rm -rf ~]` runs. `compose_recipe` first walks the tags,
without building anything and with the scanner HyperPyYAML itself uses, and refuses a file that names something
outside the list below. Who wrote the file and wants their own classes in it says so with `--trust_yaml=True`.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import ruamel.yaml
from hyperpyyaml import resolve_references

CONSTRUCTIBLE = {
    "alpha_sv": {
        "embedding.embedders.SpeakerEmbedder",
        "data.chunks.Augmenter",
        "heads.PrototypeSGD",
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
        "nnet.schedulers.WarmCoolDecayLRSchedule",
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
    >>> check_recipe("x: !apply:os.system [ls]")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: recipe, line 1: '!apply:os.system' is not something a recipe may run or build; if you wrote ...
    """
    for token in _scan(text, name):
        if isinstance(token, ruamel.yaml.tokens.DirectiveToken) and token.name == "TAG":
            tag = "%TAG"  # it could give a harmless tag another meaning
        elif isinstance(token, ruamel.yaml.tokens.TagToken):
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


def compose_recipe(path: str | os.PathLike, overrides: str = "", trust_yaml: bool = False) -> str:
    """Check a recipe, apply the overrides of the command line, resolve its references; returns YAML text to load.

    HyperPyYAML merges an override into the mapping it finds, so `--loss='!new:…AAMSoftmax {scale: 30}'` on a QMargin
    would silently stay a QMargin with another scale. Here an override that names what to build replaces the node.

    Parameters
    ----------
    path : path-like
        A HyperPyYAML file.
    overrides : str
        YAML, as `speechbrain.parse_arguments` returns it. It comes from the user's own command line, so it may build
        anything.
    trust_yaml : bool
        Skip the check of the file.
    """
    text = Path(path).read_text(encoding="utf-8")
    if not trust_yaml:
        check_recipe(text, str(path))
    parser = ruamel.yaml.YAML()
    with _valid_yaml(path):
        tree = parser.load(text)
    with _valid_yaml("command line"):
        changes = parser.load(overrides) or {}
    if unknown := sorted(set(changes) - set(tree)):
        raise ValueError(f"{path} has no key {', '.join(unknown)}; it has {', '.join(sorted(tree))}")
    for key, node in changes.items():
        builds = (getattr(getattr(node, "tag", None), "value", None) or "").startswith("!")
        if isinstance(node, dict) and isinstance(tree[key], dict) and not builds:
            tree[key].update(node)
        else:
            tree[key] = node
    composed = io.StringIO()
    parser.dump(tree, composed)
    with _valid_yaml(path):
        resolved = resolve_references(composed.getvalue()).read()
    if not trust_yaml:
        _check_tuples(resolved, str(path))
    return resolved


def _scan(text: str, name: str) -> list:
    with _valid_yaml(name):
        return list(ruamel.yaml.YAML().scan(text))


@contextlib.contextmanager
def _valid_yaml(name):
    try:
        yield
    except ruamel.yaml.YAMLError as error:
        raise ValueError(f"{name} is not valid YAML: {error}") from error


def _check_tuples(resolved: str, name: str) -> None:
    """HyperPyYAML reads every scalar "(…)" again, as a tuple, with a loader that obeys Python tags inside; such a
    scalar may also come together only from references, so the check is on the resolved text.
    """
    for token in _scan(resolved, name):
        if (
            isinstance(token, ruamel.yaml.tokens.ScalarToken)
            and token.value.lstrip().startswith("(")
            and "!" in token.value
        ):
            raise ValueError(
                f"{name}: {token.value[:60]!r} has a tag inside a tuple, which could run code; if you wrote this file "
                "or trust its author, add --trust_yaml=True"
            )
