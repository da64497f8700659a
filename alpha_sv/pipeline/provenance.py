"""What a file was made from: a note beside it,
believed only while the file is the one it was written for.

    scores.txt    scores.txt.sources.json

The note holds the SHA-256 of its file, the files behind it and the commands that led to it. Each
arrow copies what the note of its input says and adds its own, so metrics.json names model,
trials and cohort although it was made from a scores file. A file without a note is as good as
any other: less is known of it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_sv.data.trials.files import ScoreTable, write_scores
from alpha_sv.files import InputError, atomic_write, in_turn, read_json, sha256_file
from alpha_sv.metrics.schema import Nullable, problem

if TYPE_CHECKING:
    from alpha_sv.embedding.store import EmbeddingStore

FORMAT = "alpha_sv.sources/1"
logger = logging.getLogger(__name__)


def source(path: str | os.PathLike, name: str | None = None) -> dict[str, str]:
    """A file by its name (not its folder, which differs between machines;
    the commands have it) and SHA-256."""
    return {"file": name or Path(path).name, "sha256": sha256_file(path)}


def write_sources(
    path: str | os.PathLike, sources: Mapping[str, object], commands: Sequence[str] = (), kind: str | None = None
) -> None:
    """Write the note of the file `path`, which must be there already.

    Parameters
    ----------
    sources : mapping
        Of "model", "trials", "cohort", ... to `source`.
    commands : sequence of str
        What was typed to get there, in order.
    kind : str, optional
        What scores are, see `scores_kind`.

    Example
    -------
    >>> import tempfile
    >>> scores = os.path.join(tempfile.mkdtemp(), "scores.txt")
    >>> with open(scores, "w") as file:
    ...     _ = file.write("a b 0.5")
    >>> write_sources(
    ...     scores, {"trials": {"file": "trials.txt", "sha256": "0" * 64}}, ["alpha-sv score"]
    ... )
    >>> read_sources(scores)[0]["trials"]["file"], read_sources(scores)[1]
    ('trials.txt', ['alpha-sv score'])
    """
    note = {"format": FORMAT, "sha256": sha256_file(path), "sources": dict(sources), "commands": list(commands)}
    if kind is not None:
        note["kind"] = kind
    with atomic_write(_note(path)) as file:
        json.dump(note, file, indent=1)
        file.write("\n")


def read_sources(path: str | os.PathLike) -> tuple[dict, list[str]]:
    """Sources and commands of the file `path`; nothing if it has no note.

    A note that was written for other bytes than those of `path` is left aside with a warning.

    Raises
    ------
    ValueError
        The note is damaged.
    """
    sources, commands, _ = _read(path)
    return sources, commands


def scores_kind(path: str | os.PathLike) -> str | None:
    """What the scores in a file are: "cosine", "s-norm",
    "as-norm top 300", "llr"; None if its note does not say.

    Two kinds are on different scales, so what was learnt from one,
    a threshold or a calibrator, is wrong for the other.

    >>> scores_kind("/no/such/file") is None
    True
    """
    return _read(path)[2]


def refuse_known_not_llr(path: str | os.PathLike, name: str) -> None:
    """ValueError if the note beside the scores file `path`
    of the system `name` says that these are no LLRs.

    >>> refuse_known_not_llr("/no/such/file", "a")
    """
    if (kind := scores_kind(path)) not in (None, "llr"):
        raise ValueError(
            f"llr: {path} has scores of the kind {kind!r} and no log-likelihood ratios; calibrate them first, or give "
            f"--llr without {name!r} (only names of systems that have ratios)"
        )


def store_note(sources: Mapping[str, object], commands: Sequence[str]) -> Callable[[EmbeddingStore], None]:
    """What `extract` and `embed_files` call with a `finished` store:
    it writes the note of its embeddings."""
    return lambda store: write_sources(store.path / "embeddings.npy", sources, commands)


def save_scores(
    path: str | os.PathLike,
    table: ScoreTable,
    sources: Mapping[str, object],
    commands: Sequence[str] = (),
    kind: str | None = None,
) -> None:
    """Write a scores file and the note of what it was made from,
    and of what kind its scores are."""
    with in_turn(Path(path).resolve().parent):
        write_scores(path, table)
        write_sources(path, sources, commands, kind)


def _read(path: str | os.PathLike) -> tuple[dict, list[str], str | None]:
    note = _note(path)
    if not note.is_file():
        return {}, [], None
    try:
        content = read_json(note, like={"format": str, "sha256": str, "sources": dict, "commands": list})
        if content["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        parts = {"sources": content["sources"], "commands": content["commands"], "kind": content.get("kind")}
        sources = dict.fromkeys(parts["sources"], {"file": str, "sha256": str})
        if wrong := problem(parts, {"sources": sources, "commands": [str], "kind": Nullable(str)}):
            raise ValueError(wrong)
        found = parts["sources"], parts["commands"], parts["kind"]
        if content["sha256"] == sha256_file(path):
            return found
    except ValueError as error:
        raise InputError(f"{note} is damaged ({error}); delete it, or make {path} again") from error
    logger.warning("%s was written for another %s and is not used; delete it", note, Path(path).name)
    return {}, [], None


def _note(path: str | os.PathLike) -> Path:
    return Path(f"{os.fspath(path)}.sources.json")
