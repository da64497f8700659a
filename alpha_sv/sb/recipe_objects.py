"""The objects that a resolved recipe names: plain data,
and calls of permitted classes and functions with plain data.

HyperPyYAML's own loader knows Python's tags,
and it reads every text "(…)" again with another one that does too.
"""

from __future__ import annotations

import contextlib
import functools
import pydoc
import re
from collections.abc import Callable, Iterator, Mapping

import ruamel.yaml
import torch
import yaml
from ruamel.yaml import events

from alpha_sv.sb.recipe_references import MAX_DEPTH, tag_of

TRUST = "if you wrote this file or trust its author, add --trust_yaml=True"
TUPLE = re.compile(r"\(.*\)\n?")
_MAX_TUPLE = 500  # characters
MAX_WEIGHTS = 500_000_000  # of all that a recipe builds
YAML_TAG = "tag:yaml.org,2002:"


def build(text: str, permitted: Callable[[str], bool]) -> dict:
    """What a resolved recipe says.

    Parameters
    ----------
    text : str
        YAML without references.
    permitted : function
        Whether something may be built or called, given its tag, such as "!new:torch.optim.Adam".

    Raises
    ------
    ValueError
        For another tag, and where a class refuses its arguments, with its own words.

    Example
    -------
    >>> build(
    ...     "size: (1, 2)\\nloss: !new:alpha_sv.losses.QMargin",
    ...     lambda tag: tag == "!new:alpha_sv.losses.QMargin",
    ... )
    {'size': (1, 2), 'loss': QMargin(...)}
    """
    loader = _Loader(text)
    loader.permitted = permitted
    return loader.get_single_data()


def plain_tuple(text: str) -> tuple:
    """The tuple that "(1, two)" stands for,
    read as HyperPyYAML does but without tags, anchors and aliases."""
    if not isinstance(text, str) or not TUPLE.fullmatch(text):
        raise ValueError(f"!tuple takes a text in parentheses such as (1, 2), got {str(text)[:60]!r}")
    if len(text) > _MAX_TUPLE:
        raise ValueError(f"{text[:60]!r}… is a tuple of more than {_MAX_TUPLE} characters; write a list")
    inner, depth = f"[{text.strip()[1:-1]}]", 0
    try:
        for event in yaml.parse(inner, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if getattr(event, "tag", None) or getattr(event, "anchor", None) or depth > MAX_DEPTH:
                raise ValueError(f"a tag inside a tuple, an anchor, or more than {MAX_DEPTH} levels; {TRUST}")
        return tuple(yaml.safe_load(inner))
    except Exception as error:
        raise ValueError(f"{text[:60]!r} is not a tuple of plain data: {one_line(error)}") from error


def check_tuples(node, seen: set[int] | None = None) -> None:
    """HyperPyYAML reads every plain scalar "(…)", and all that is tagged !tuple, with a loader
    that obeys the tags inside; so that the text is safe in its hands too, they must be plain data.
    """
    seen = set() if seen is None else seen
    if isinstance(node, (dict, list)) and tag_of(node) != "!tuple":
        if id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, dict) and (wrong := [key for key in node if TUPLE.fullmatch(str(key))]):
                raise ValueError(f"{wrong[0][:60]!r} is a tuple, not the name of a key")
            for child in node.values() if isinstance(node, dict) else node:
                check_tuples(child, seen)
        return
    tag, text = tag_of(node), getattr(node, "value", node)
    if tag == "!tuple" or (not tag and isinstance(text, str) and TUPLE.fullmatch(text)):
        plain_tuple(text)


def one_line(error: Exception) -> str:
    """The message of an error without its line breaks; of a YAML error with its place."""
    of_yaml = isinstance(error, ruamel.yaml.YAMLError)  # others, such as AudioError, may have a `problem` too
    mark, problem = (getattr(error, name, None) if of_yaml else None for name in ("problem_mark", "problem"))
    text = problem or "; ".join(map(str, error.args))
    if not text or not isinstance(error, (ValueError, TypeError, ruamel.yaml.YAMLError)):
        text = f"{type(error).__name__} {text}"
    return (f"line {mark.line + 1}: " if mark else "") + " ".join(text.split())[:500].strip()


def which_are_texts(error: Exception, arguments: Mapping[str, object]) -> str:
    """To be put behind an error:
    Python's own says that a text was compared with a number, and not which.

    >>> which_are_texts(TypeError("'<=' not supported"), {"lr": "x", "momentum": 0.9})
    "; this is a text: lr = 'x'"
    """
    texts = [f"{name} = {value!r:.60}" for name, value in arguments.items() if isinstance(value, str)]
    if not texts or not isinstance(error, TypeError):
        return ""
    return f"; {'these are texts' if len(texts) > 1 else 'this is a text'}: {', '.join(texts)}"


def check_seed(seed: object) -> None:
    """ValueError unless it is a seed that SpeechBrain takes;
    of others it says nothing, and takes 0.

    >>> check_seed(5_000_000_000)
    Traceback (most recent call last):
    ValueError: seed must be a whole number from 0 to 4294967295, got 5000000000
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {seed!r}")


@contextlib.contextmanager
def valid_yaml(name):
    """Any error inside becomes a ValueError of one line that names the file."""
    try:
        yield
    except Exception as error:  # ruamel raises many kinds for broken text, AttributeError and RecursionError too
        raise ValueError(f"{name} is not valid YAML: {one_line(error)}") from error


def read_events(text: str, name) -> Iterator[events.Event]:
    """What a text consists of, read piece by piece."""
    with valid_yaml(name):
        yield from ruamel.yaml.YAML().parse(text)


class _Loader(ruamel.yaml.SafeLoader):
    """YAML's plain data, tuples, and the tags for which `permitted` is true."""

    permitted: Callable[[str], bool]
    weights = 0

    def construct_object(self, node, deep=False):
        return super().construct_object(node, deep=True)  # what is handed to a class must be whole by then

    def construct_text(self, node):
        text = self.construct_scalar(node)
        return plain_tuple(text) if node.style is None and TUPLE.fullmatch(text) else text

    def construct_named(self, tag, node):
        tag = "!" + tag
        kind, _, target = tag.partition(":")
        if kind not in ("!new", "!name", "!apply") or not self.permitted(tag):
            raise ValueError(f"{tag!r} is not something a recipe may run or build; {TRUST}")
        found = pydoc.locate(target)
        if not callable(found) or (kind == "!new" and not isinstance(found, type)):
            raise ValueError(f"{tag}: there is no such {'class' if kind == '!new' else 'function or class'}")
        args, kwargs = [], {}
        if isinstance(node, ruamel.yaml.MappingNode):
            kwargs = self.construct_mapping(node, deep=True)
        elif isinstance(node, ruamel.yaml.SequenceNode):
            args = self.construct_sequence(node, deep=True)
        elif node.value:
            raise ValueError(f"{tag} takes a list or a mapping of arguments, got {node.value[:60]!r}")
        try:
            if kind == "!name":
                return functools.partial(found, *args, **kwargs) if args or kwargs else found
            if target.endswith(".seed_everything"):
                check_seed(args[0] if args else kwargs.get("seed", 0))
            made = found(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"{tag}: {one_line(error)}{which_are_texts(error, kwargs)}") from error
        if isinstance(made, torch.nn.Module):
            self.weights += sum(parameter.numel() for parameter in made.parameters())
        if self.weights > MAX_WEIGHTS:
            raise ValueError(f"{tag}: more than {MAX_WEIGHTS:.0e} weights in all; {TRUST}")
        return made


_Loader.add_constructor(YAML_TAG + "str", _Loader.construct_text)
_Loader.add_constructor("!tuple", lambda loader, node: plain_tuple(loader.construct_scalar(node)))
_Loader.add_multi_constructor("!", _Loader.construct_named)
