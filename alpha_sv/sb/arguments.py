"""The command line of a recipe:
`recipe.yaml [--any_key=value …] [options of SpeechBrain] [--trust_yaml=True]`."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ruamel.yaml
from speechbrain.utils.run_opts import RunOptions

from alpha_sv.sb.recipe_list import find_recipe

# their values are names: 0012 stays 0012 there, and ~ is the home folder
PATH_KEYS = {
    *("data_folder", "output_folder", "prepared", "warm_start", "noise_folder", "rir_folder", "front_cache", "model"),
    *("trials", "valid_trials", "exclude_speakers"),
}


@dataclass(frozen=True)
class Command:
    """A command line, taken apart: `overrides` are (key, YAML text) in the order typed."""

    argv: tuple[str, ...]
    recipe: str
    run_opts: RunOptions
    overrides: tuple[tuple[str, str], ...]
    trust_yaml: bool

    def yaml(self, **instead: str) -> str:
        """The overrides as YAML; `instead` replaces or adds some."""
        pairs = {**dict(self.overrides), **instead}
        return "\n".join(f"{key}: {text}" for key, text in pairs.items())


def read_command(argv: Sequence[str]) -> Command:
    """Take a command line apart, without reading the recipe.

    Raises
    ------
    ValueError
        No recipe, an option given twice or without a value, a word that belongs to no option,
        or a value that SpeechBrain does not take for one of its own options.

    Example
    -------
    >>> command = read_command(
    ...     ["my/ecapa.yaml", "--exclude_speakers=0012", "--margin", "0.1", "--device=cpu"]
    ... )
    >>> command.recipe, command.run_opts["device"]
    ('my/ecapa.yaml', 'cpu')
    >>> print(command.yaml())
    exclude_speakers: "0012"
    margin: 0.1
    """
    argv = [os.fspath(argument) for argument in argv]
    trust = [argument for argument in argv if argument.split("=")[0] == "--trust_yaml"]
    trusted = any(argument.lower() in ("--trust_yaml", "--trust_yaml=true") for argument in trust)
    if not argv or argv[0].startswith("-"):
        raise ValueError("the first argument must be a recipe: its file, or a name that `alpha-sv recipes` lists")
    parser = RunOptions._create_parser()
    parser.exit_on_error = False
    own = {option for action in parser._actions for option in action.option_strings}
    words = [argument for argument in argv[1:] if argument not in trust]
    _refuse_repeated(word.split("=")[0] for word in words if word.startswith("--"))
    run_words, rest = _split(words, own)
    # what SpeechBrain reads is only its own options,
    # each as one word: it splits other values at every "="
    run_opts = _run_options([argv[0], *run_words])
    overrides = tuple((key, _as_typed(key, text) if key in PATH_KEYS else text) for key, text in _pairs(rest))
    return Command(tuple(argv), os.fspath(find_recipe(argv[0])), run_opts, overrides, trusted)


def unknown_keys(unknown: Iterable[str], known: Iterable[str]) -> str:
    """A sentence on keys that a recipe does not have, with the ones that were probably meant.

    >>> unknown_keys(["num_epochs"], ["number_of_epochs", "seed"])
    'no key num_epochs (did you mean number_of_epochs?)'
    """
    said = []
    for key in unknown:
        near = difflib.get_close_matches(key, known, 1)
        said.append(f"{key} (did you mean {near[0]}?)" if near else key)
    return f"no key {', '.join(said)}"


def _split(words: list[str], own: set[str]) -> tuple[list[str], list[str]]:
    """SpeechBrain's options, and the rest; "--key value" counts as "--key=value"."""
    flags = {f"--{name}" for name, default in RunOptions().as_dict().items() if default is False}
    run_words, rest = [], []
    position = 0
    while position < len(words):
        word = words[position]
        name, given, _ = word.partition("=")
        if not word.startswith("--"):
            raise ValueError(
                f"{word!r} belongs to no option; write --key=value, with quotes around a value with blanks"
            )
        if not given and name not in flags:
            position += 1
            if position == len(words) or words[position].startswith("--"):
                raise ValueError(f"{name} has no value; write {name}=value")
            word = f"{name}={words[position]}"
        (run_words if name in own else rest).append(word)
        position += 1
    return run_words, rest


def _run_options(words: list[str]) -> RunOptions:
    import argparse
    import contextlib
    import io

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return RunOptions.from_command_line_args(words)[1]
    except (SystemExit, argparse.ArgumentError) as error:
        raise ValueError(said.getvalue().strip().rpartition("error: ")[2] or str(error)) from error


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return [(word[2:].partition("=")[0], word.partition("=")[2]) for word in words]


def _refuse_repeated(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{name} is given twice; give it once")
        seen.add(name)


def _as_typed(key: str, text: str) -> str:
    """A name or a list of names as YAML strings, with the very characters typed."""
    if not text.strip():
        return ""
    if not text.lstrip().startswith("["):
        return json.dumps(os.path.expanduser(text), ensure_ascii=False)
    try:
        node = ruamel.yaml.YAML().compose(text)
        names = [item.value for item in node.value]
    except (ruamel.yaml.YAMLError, AttributeError) as error:
        raise ValueError(f"--{key}={text}: not a list such as '[one, other]'") from error
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"--{key}={text}: not a list of names such as '[one, other]'")
    return json.dumps([os.path.expanduser(name) for name in names], ensure_ascii=False)
