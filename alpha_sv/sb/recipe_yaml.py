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
        "schedule.AlphaSchedule",
        "schedule.MarginSchedule",
        "schedule.ExponentialRate",
        "schedule.TriangularRate",
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
_HARMLESS_TAGS = {"!ref", "!copy", "!PLACEHOLDER", "!!str", "!!int", "!!float", "!!bool", "!!null"}
_HARMLESS_TAGS |= {"!apply:speechbrain.utils.seed_everything", "!apply:torch.manual_seed"}
_BUILDING_TAGS = ("!new:", "!name:")


def check_recipe(text: str, name: str = "recipe", own: frozenset[str] = frozenset()) -> None:
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
    for tag, line in _tags(text, name).items():
        target = next((tag[len(prefix) :] for prefix in _BUILDING_TAGS if tag.startswith(prefix)), "")
        package, _, rest = target.partition(".")
        if tag in _HARMLESS_TAGS or tag in own or rest in CONSTRUCTIBLE.get(package, ()):
            continue
        raise ValueError(
            f"{name}, line {line}: {tag!r} is not something a recipe may run or build; "
            "if you wrote this file or trust its author, add --trust_yaml=True"
        )


def _tags(text: str, name: str) -> dict[str, int]:
    """Each tag of a text, with the line of its first place."""
    tags: dict[str, int] = {}
    for token in _scan(text, name):
        if isinstance(token, ruamel.yaml.tokens.DirectiveToken) and token.name == "TAG":
            tags.setdefault("%TAG", token.start_mark.line + 1)  # it could give a harmless tag another meaning
        elif isinstance(token, ruamel.yaml.tokens.TagToken):
            tags.setdefault((token.value[0] or "") + token.value[1], token.start_mark.line + 1)
    return tags


def compose_recipe(path: str | os.PathLike, overrides: str = "", trust_yaml: bool = False) -> str:
    """Check a recipe, apply the overrides of the command line, resolve its references; returns YAML text to load.

    A recipe may begin with `extends: other.yaml`, or a list of files, with paths relative to its own folder. Their keys
    are taken over, each file's replacing those before it, and its own replace them all, by the rule of the command
    line; so a key that the first file lacks is refused there too. The text returned has everything in it.

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
        Skip the check of the file and of those it extends.

    Raises
    ------
    ValueError
        Naming the file: not there, not YAML, extending itself, with a key that the files it extends do not have, or
        with a tag outside `CONSTRUCTIBLE`.
    """
    tree = _read_tree(Path(path), trust_yaml, ancestors=(), anchors={})
    parser = ruamel.yaml.YAML()
    with _valid_yaml("command line"):
        changes = parser.load(overrides) or {}
    _replace(tree, changes, str(path))
    composed = io.StringIO()
    parser.dump(tree, composed)
    with _valid_yaml(path):
        resolved = resolve_references(composed.getvalue()).read()
    if not trust_yaml:
        check_recipe(resolved, str(path), own=_tags(overrides, "command line"))
        _check_tuples(resolved, str(path))
    return resolved


def _read_tree(path: Path, trust_yaml: bool, ancestors: tuple[Path, ...], anchors: dict[str, Path]) -> dict:
    """The keys of a recipe and of the files it extends; `anchors` collects which file has which anchor."""
    here = path.resolve()
    if here in ancestors:
        raise ValueError(f"{path} extends itself: {' → '.join(file.name for file in (*ancestors, here))}")
    if not path.is_file():
        raise ValueError(f"{path} does not exist" + (f", but {ancestors[-1]} extends it" if ancestors else ""))
    text = path.read_text(encoding="utf-8")
    if not trust_yaml:
        check_recipe(text, str(path))
    for token in _scan(text, str(path)):  # an alias would mean whichever node comes last in the merged text
        if isinstance(token, ruamel.yaml.tokens.AnchorToken) and anchors.setdefault(token.value, here) != here:
            raise ValueError(f"{path} and {anchors[token.value]} both have an anchor &{token.value}: rename one")
    with _valid_yaml(path):
        own = ruamel.yaml.YAML().load(text)
    if not isinstance(own, dict):
        raise ValueError(f"{path} is not a recipe: it has no keys")
    if "extends" not in own:
        return own
    extended = own.pop("extends")
    names = [extended] if isinstance(extended, str) else extended
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: extends must be the name of a file or a list of names, got {extended!r}")
    first, *others = (path.parent / name for name in names)
    tree = _read_tree(first, trust_yaml, (*ancestors, here), anchors)
    for other in others:
        _replace(tree, _read_tree(other, trust_yaml, (*ancestors, here), anchors), f"{first} (for {other})")
    _replace(tree, own, f"{first} (for {path})")
    tree.ca.comment = own.ca.comment  # the header is that of the file
    return tree


def _replace(tree: dict, changes: dict, name: str) -> None:
    """Put `changes` in place of keys of `tree`: arguments alone are merged, a node that names what to build is put
    in whole.
    """
    if unknown := sorted(set(changes) - set(tree)):
        raise ValueError(f"{name} has no key {', '.join(unknown)}; it has {', '.join(sorted(tree))}")
    for key, node in changes.items():
        builds = (getattr(getattr(node, "tag", None), "value", None) or "").startswith("!")
        if isinstance(node, dict) and isinstance(tree[key], dict) and not builds:
            tree[key].update(node)
        else:
            tree[key] = node


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
