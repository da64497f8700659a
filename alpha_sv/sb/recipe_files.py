"""A recipe and the files it extends, merged into one tree of nodes;
nothing in it is built or resolved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ruamel.yaml
from ruamel.yaml import events

from alpha_sv.sb.arguments import PATH_KEYS, unknown_keys
from alpha_sv.sb.recipe_objects import TRUST, read_events, valid_yaml
from alpha_sv.sb.recipe_references import MAX_NODES, tag_of

MAX_BYTES = 256 * 1024  # of a recipe and all that it extends; our largest has 8 kB
_MAX_FILES = 50


def read_tree(path: Path, check: Callable[[str, str], int] | None) -> dict:
    """The keys of a recipe and of the files it extends.

    Parameters
    ----------
    path : Path
        The recipe.
    check : function
        (text, name of the file) → number of nodes; called before anything else is done with a file.
        None: the files are trusted, and may be of any size and number.

    Raises
    ------
    ValueError
        Naming the file: see `recipe_yaml.compose_recipe`.
    """
    return _read_tree(path, check, (), {}, [])


def _read_tree(path: Path, check, ancestors: tuple[Path, ...], anchors: dict[str, Path], shares: list[float]) -> dict:
    """`anchors` collects which file has which anchor,
    `shares` how much of what is allowed each file has used."""
    text, here = read_text(path, check is None, ancestors)
    if here in ancestors:
        raise ValueError(f"{path} extends itself: {' → '.join(file.name for file in (*ancestors, here))}")
    if check:
        shares.append(max(1 / _MAX_FILES, len(text) / MAX_BYTES, check(text, str(path)) / MAX_NODES))
        if sum(shares) > 1:
            raise ValueError(
                f"{(*ancestors, here)[0]} and the files it extends, some perhaps again and again, are more than "
                f"{_MAX_FILES}, larger than {MAX_BYTES // 1024} kB or of more than {MAX_NODES} entries; {TRUST}"
            )
    # an alias would mean the node that comes last in the merged text
    for event in read_events(text, path) if "&" in text else ():
        anchor = None if isinstance(event, events.AliasEvent) else getattr(event, "anchor", None)
        if anchor and anchors.setdefault(anchor, here) != here:
            raise ValueError(f"{path} and {anchors[anchor]} both have an anchor &{anchor}: rename one")
    with valid_yaml(path):
        own = ruamel.yaml.YAML().load(text)
    if not isinstance(own, dict) or tag_of(own):
        raise ValueError(f"{path} is not a recipe: it has no keys")
    if wrong := [key for key in own if not isinstance(key, str)]:
        raise ValueError(f"{path}: a key of a recipe is a name, got {str(wrong[0])[:60]!r}")
    if any(not isinstance(own.get(key, ""), str) for key in PATH_KEYS):  # a number, or a list with one
        own.update(_names_as_typed(text))
    if "extends" not in own:
        return own
    extended = own.pop("extends")
    names = [extended] if isinstance(extended, str) else extended
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: extends must be the name of a file or a list of names, got {str(extended)[:60]!r}")
    first, *others = (path.parent / name for name in names)
    tree = _read_tree(first, check, (*ancestors, here), anchors, shares)
    for other in others:
        replace(tree, _read_tree(other, check, (*ancestors, here), anchors, shares), f"{first} (for {other})")
    replace(tree, own, f"{first} (for {path})")
    tree.ca.comment = own.ca.comment  # the header is that of the file
    return tree


def _names_as_typed(text: str) -> dict[str, str | list[str]]:
    """The values of keys that are names, with the characters
    that stand in the file: 0012 is no number there."""
    names = {}
    for key, value in ruamel.yaml.YAML().compose(text).value:
        items = value.value if isinstance(value, ruamel.yaml.SequenceNode) else [value]
        plain = all(isinstance(item, ruamel.yaml.ScalarNode) and _is_number(item.tag) for item in items)
        if key.value in PATH_KEYS and items and plain and not value.anchor:
            names[key.value] = [item.value for item in items] if items is value.value else value.value
    return names


def _is_number(tag: str) -> bool:
    return tag.rpartition(":")[2] in ("int", "float", "bool", "timestamp", "str")


def read_text(path: Path, any_size: bool = False, ancestors: tuple[Path, ...] = ()) -> tuple[str, Path]:
    """(text, absolute path) of a regular file; not more of it than shows that it is too large."""
    extender = f", but {ancestors[-1]} extends it" if ancestors else ""
    try:
        if not path.is_file():
            raise FileNotFoundError
        with open(path, "rb") as file:
            content = file.read(-1 if any_size else MAX_BYTES + 1)
        if len(content) > MAX_BYTES and not any_size:
            raise OverflowError(f"larger than {MAX_BYTES // 1024} kB")
        return content.decode("utf-8"), path.resolve()
    except OverflowError as error:
        raise ValueError(f"{path} is {error}: no recipe is; {TRUST}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (at byte {error.start}): save it as UTF-8") from error
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist{extender}; check the path") from error
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a NUL, or a link to itself
        raise ValueError(f"{str(path)[:200]!r} cannot be read ({error.__class__.__name__}){extender}") from error


def replace(tree: dict, changes: dict, name: str) -> None:
    """Put `changes` in place of keys of `tree`:
    arguments alone are merged, a node that names what to build is put in whole.
    """
    if unknown := sorted(str(key) for key in changes if key not in tree):
        raise ValueError(f"{name} has {unknown_keys(unknown, tree)[:300]}; it has {', '.join(sorted(tree))[:1000]}")
    for key, node in changes.items():
        builds = tag_of(node).startswith("!")
        if isinstance(node, dict) and isinstance(tree[key], dict) and not builds:
            tree[key].update(node)
        else:
            tree[key] = node
