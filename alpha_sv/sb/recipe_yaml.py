"""Recipe YAML that cannot run code, hang or fill the memory.

HyperPyYAML builds whatever a file names: `!apply:os.system [rm -rf ~]` runs, and so does a tag
inside a string that looks like a tuple, because it reads that again. Here a recipe goes through
three gates, each an allow-list. Its text may have the tags below and bounded sizes
(`check_recipe`); its references lead to keys (`recipe_references`); and what builds the objects
(`recipe_objects`) knows nothing but plain data and the classes below. Who wrote a recipe and wants
their own classes in it says so with `--trust_yaml=True`: then it is HyperPyYAML's.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import hyperpyyaml
import ruamel.yaml
from ruamel.yaml import events

from alpha_sv.moved import new_name
from alpha_sv.sb.recipe_files import MAX_BYTES, read_text, read_tree, replace
from alpha_sv.sb.recipe_objects import TRUST, YAML_TAG, build, check_tuples, one_line, read_events, valid_yaml
from alpha_sv.sb.recipe_references import MAX_DEPTH, MAX_NODES, MAX_SCALAR, resolve

CONSTRUCTIBLE = {
    "alpha_sv": {
        "embedding.embedder.SpeakerEmbedder",
        "exchange.wavlm_weights.PretrainedWavLM",
        "data.audio.augment.Augmenter",
        "face.training_data.FaceCorpus",
        "face.embedder.FaceEmbedder",
        "heads.PrototypeSGD",
        "losses.NormSoftmax",
        "losses.AMSoftmax",
        "losses.AAMSoftmax",
        "losses.Sparsemax",
        "losses.Entmax",
        "losses.QMargin",
        "losses.A3M",
        "losses.MarginLoss",
        "schedule.AlphaSchedule",
        "schedule.MarginSchedule",
        "schedule.ExponentialRate",
        "schedule.PolynomialRate",
        "schedule.TriangularRate",
        "sb.fine_tuning.Adapted",
        "sb.checkpointer.SafeCheckpointer",
    },
    "speechbrain": {
        "augment.time_domain.DropFreq",
        "augment.time_domain.DropChunk",
        "nnet.schedulers.WarmCoolDecayLRSchedule",
        "utils.epoch_loop.EpochCounter",
    },
    "torch": {"optim.Adam", "optim.AdamW", "optim.SGD"},
}
_CALLABLE_TAGS = {"!apply:speechbrain.utils.seed_everything", "!apply:torch.manual_seed"}
_DATA_TAGS = {"!ref", "!copy", "!tuple", "!PLACEHOLDER"}
_DATA_TAGS |= {YAML_TAG + kind for kind in ("str", "int", "float", "bool", "null")}
_MAX_ALIASES = 200
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def is_listed(tag: str) -> bool:
    """Whether a recipe that nobody vouches for may have this tag."""
    kind, _, target = new_name(tag).partition(":")
    package, _, name = target.partition(".")
    return tag in _DATA_TAGS | _CALLABLE_TAGS or (kind in ("!new", "!name") and name in CONSTRUCTIBLE.get(package, ()))


def check_recipe(text: str, name: str = "recipe", permitted: Callable[[str], bool] = is_listed) -> int:
    """Refuse YAML text with a tag that builds anything
    outside `CONSTRUCTIBLE`, or of a size that no recipe has.

    Parameters
    ----------
    text : str
        YAML of one file. It is read piece by piece, and only up to the first thing refused.
    name : str
        Name of the file, for the error.
    permitted : function
        Whether a tag may stand in it.

    Returns
    -------
    int
        Number of nodes, each alias counted as all that it stands for.

    Raises
    ------
    ValueError
        Naming file, line and value.

    Example
    -------
    >>> check_recipe("loss: !new:alpha_sv.losses.QMargin")
    3
    >>> check_recipe("x: !apply:os.system [ls]")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: recipe, line 1: '!apply:os.system' is not something a recipe may run ...
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES // 1024} kB: no recipe is; {TRUST}")
    aliases, sizes, frames = 0, {}, [[None, 0]]  # anchor → nodes below it; the open nodes, each [anchor, nodes so far]
    for event in read_events(text, name):
        where = f"{name}, line {event.start_mark.line + 1}"
        if isinstance(event, events.DocumentStartEvent) and (event.tags or event.version):
            raise ValueError(f"{where}: a %TAG or %YAML line could give the file another meaning; {TRUST}")
        tag = getattr(event, "tag", None)
        if tag is not None and not permitted(tag):
            shown = tag.replace(YAML_TAG, "!!")[:100]
            raise ValueError(f"{where}: {shown!r} is not something a recipe may run or build; {TRUST}")
        if len(getattr(event, "anchor", None) or "") > MAX_SCALAR:
            raise ValueError(f"{where}: an anchor of more than {MAX_SCALAR} characters")
        if isinstance(event, events.AliasEvent):
            aliases += 1
            if event.anchor not in sizes:
                raise ValueError(f"{where}: *{event.anchor} stands for nothing, or for what it is part of")
            frames[-1][1] += sizes[event.anchor]
        elif isinstance(event, events.ScalarEvent):
            sizes[event.anchor] = 1
            frames[-1][1] += 1
            value = event.value.replace("\a", "") if event.style == ">" else event.value  # how ruamel marks a fold
            if len(value) > MAX_SCALAR or _FORBIDDEN.search(value):
                raise ValueError(f"{where}: {value[:20]!r}… has more than {MAX_SCALAR} or forbidden characters")
        elif isinstance(event, events.CollectionStartEvent):
            frames.append([event.anchor, 1])
            if tag in _DATA_TAGS:
                raise ValueError(
                    f"{where}: {tag.replace(YAML_TAG, '!!')} is for one value, not for a list or a mapping"
                )
            sizes.pop(event.anchor, None)  # an alias inside would mean what is not yet whole
        elif isinstance(event, events.CollectionEndEvent):
            anchor, sizes[anchor] = frames.pop()
            frames[-1][1] += sizes[anchor]
        if frames[-1][1] > MAX_NODES or len(frames) > MAX_DEPTH or aliases > _MAX_ALIASES:
            raise ValueError(
                f"{where}: more than {MAX_NODES} entries, {MAX_DEPTH} levels or {_MAX_ALIASES} aliases; {TRUST}"
            )
    return frames[0][1]


def load_recipe(path: str | os.PathLike, overrides: str = "", trust_yaml: bool = False) -> tuple[dict, str]:
    """Compose a recipe (`compose_recipe`: same arguments, same errors) and build what it names.

    Returns
    -------
    hparams : dict
        Key → object; keys that begin with "__" are left out, as in HyperPyYAML.
    text : str
        What `compose_recipe` returns.

    Raises
    ------
    ValueError
        Also where a class refuses its arguments.

    Example
    -------
    >>> import tempfile
    >>> recipe = Path(tempfile.mkdtemp()) / "recipe.yaml"
    >>> _ = recipe.write_text(
    ...     "scale: 10.0\\nloss: !new:alpha_sv.losses.QMargin {scale: !ref <scale>}"
    ... )
    >>> load_recipe(recipe, "scale: 30.0")[0]["loss"].scale
    30.0
    """
    text = compose_recipe(path, overrides, trust_yaml)
    return build_recipe(text, str(path), overrides, trust_yaml), text


def build_recipe(text: str, name: str = "recipe", overrides: str = "", trust_yaml: bool = False) -> dict:
    """Build what a composed recipe names;
    arguments and errors as in `load_recipe`, which does both steps."""
    try:
        if trust_yaml:
            return hyperpyyaml.load_hyperpyyaml(text)
    except TypeError as error:  # an argument that the class named in the recipe does not have
        raise ValueError(f"{name}: {one_line(error)}") from error
    try:
        hparams = build(text, _permitted(overrides))
        return {key: value for key, value in hparams.items() if not key.startswith("__")}
    except Exception as error:
        raise ValueError(f"{name}: {one_line(error)}") from error


def read_saved(path: str | os.PathLike) -> dict:
    """The nodes, with their tags, of the resolved recipe
    that a run has saved; nothing that it names is built.

    Raises
    ------
    ValueError
        Naming the file: not there, not YAML, or larger than any recipe.

    Example
    -------
    >>> import tempfile
    >>> saved = Path(tempfile.mkdtemp()) / "hyperparams.yaml"
    >>> _ = saved.write_text("loss: !new:my.Loss {scale: 10.0}")
    >>> read_saved(saved)["loss"].tag.value
    '!new:my.Loss'
    """
    text, _ = read_text(Path(path))
    check_recipe(text, str(path), lambda tag: True)
    with valid_yaml(path):
        tree = ruamel.yaml.YAML().load(text)
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is not a recipe: it has no keys")
    return tree


def compose_recipe(path: str | os.PathLike, overrides: str = "", trust_yaml: bool = False) -> str:
    """Check a recipe, apply the overrides of the command line,
    resolve its references; returns YAML text to load.

    A recipe may begin with `extends: other.yaml`, or a list of files, with paths relative to its
    own folder. Their keys are taken over, each file's replacing those before it, and its own
    replace them all, by the rule of the command line; so a key that the first file lacks is refused
    there too. The text returned has everything in it.

    HyperPyYAML merges an override into the mapping it finds, so
    `--loss='!new:…AAMSoftmax {scale: 30}'` on a QMargin would silently stay a QMargin with another
    scale. Here an override that names what to build replaces the node.

    Parameters
    ----------
    path : path-like
        A HyperPyYAML file.
    overrides : str
        YAML, as `speechbrain.parse_arguments` returns it. It comes from the user's
        own command line, so `!new:`, `!name:` and `!apply:` in it may name anything.
    trust_yaml : bool
        Skip all checks of the file and of those it extends.

    Raises
    ------
    ValueError
        Naming the file: not there, not YAML, extending itself, with a key that the files it
        extends do not have, with a tag outside `CONSTRUCTIBLE`, a reference to something else than
        a key, or beyond the bounds.
    """
    tree = read_tree(Path(path), None if trust_yaml else check_recipe)
    parser = ruamel.yaml.YAML()
    with valid_yaml("command line"):
        changes = parser.load(overrides) or {}
    if not isinstance(changes, dict):
        raise ValueError(f"command line: overrides are --key=value, got {overrides[:60]!r}")
    replace(tree, changes, str(path))
    composed = io.StringIO() if trust_yaml else _BoundedText()
    if trust_yaml:
        parser.dump(tree, composed)
        with valid_yaml(path):
            return hyperpyyaml.resolve_references(composed.getvalue()).read()
    try:
        resolve(tree)
        check_tuples(tree)
    except Exception as error:
        raise ValueError(f"{path}: {one_line(error)}") from error
    with valid_yaml(f"{path}, its references resolved,"):
        parser.dump(tree, composed)
    check_recipe(composed.getvalue(), f"{path}, its references resolved", _permitted(overrides))
    return composed.getvalue()


def _permitted(overrides: str) -> Callable[[str], bool]:
    """Listed tags, and those that the user's own command line has."""
    own = {getattr(event, "tag", None) for event in read_events(overrides, "command line")}
    return lambda tag: is_listed(tag) or tag in own


class _BoundedText(io.StringIO):
    """Copies multiply comments too, which no other bound counts."""

    def write(self, text: str) -> int:
        if self.tell() + len(text) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES // 1024} kB: no recipe is")
        return super().write(text)
