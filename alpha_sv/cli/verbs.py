"""What all verbs are made with: a parser whose help teaches, and argument types."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Line ends as given; the default of an option where there is something to say."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False or action.default == []
        return action.help if nothing else super()._get_help_string(action)


def verb(
    verbs: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], None],
    summary: str,
    example: str,
    description: str = "",
    reads: Sequence[str] = (),
    words: Sequence[str] = (),
    makes: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A verb: `summary` and `description` say what it does, `example` shows it. Arguments named in
    `reads` may be "-", see `alpha_sv.cli.streams`; those in `words` are names and texts, no files;
    `makes` are the files written into an output that is a folder, see
    `alpha_sv.cli.guard.refuse_overwriting`."""
    sub = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{description and chr(10)}{description}",
        epilog=f"example:\n  {example}",
        formatter_class=_Help,
    )
    sub.set_defaults(run=run, parser=sub, reads=tuple(reads), words=tuple(words), makes=tuple(makes))
    return sub


def positive(text: str) -> int:
    """A whole number from 1 on."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number from 0 on."""
    return _at_least(0, text)


def seed(text: str) -> int:
    """A whole number that numpy, torch and SpeechBrain take."""
    if (value := not_negative(text)) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be at most {2**32 - 1}, got {value}")
    return value


def refuse_idle(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """ValueError if one of these options was given: it does nothing here, and was meant to.

    An option that was given with the value of its default cannot be told from one that was not.
    """
    for name in names:
        if getattr(arguments, name) != arguments.parser.get_default(name):
            raise ValueError(f"--{name.replace('_', '-')} does nothing {why}; leave it out")


def typed(arguments: argparse.Namespace) -> str:
    """The command as it was typed."""
    return shlex.join(["alpha-sv", *arguments.argv])


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
    return value
