"""Files, folders and wav.scp → an embedding store, with any model and without a manifest."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from alpha_sv.data.audio import AUDIO_EXTENSIONS
from alpha_sv.data.corpus.name_form import as_word
from alpha_sv.embedding.batches import embed_in_batches
from alpha_sv.embedding.store import EmbeddingStore, StoreWriter
from alpha_sv.files import file_state, folder_lock, input_key, read_text
from alpha_sv.verify.model import SpeakerModel
from alpha_sv.verify.waveforms import recordings

logger = logging.getLogger(__name__)
_EXTENSIONS = {*AUDIO_EXTENSIONS, ".mp3", ".aiff", ".aif", ".sph"}  # what libsndfile reads besides


def embed_files(
    model: SpeakerModel,
    sources: Sequence[str | os.PathLike],
    store: str | os.PathLike,
    batch_size: int = 16,
    progress: bool = True,
    finished: Callable[[EmbeddingStore], object] | None = None,
) -> EmbeddingStore:
    """Embed audio files into a store; an interrupted call continues where it stopped.

    Parameters
    ----------
    model : SpeakerModel
    sources : sequence of paths
        Each an audio file, whose id is its path as given; a folder, searched for audio, with ids
        relative to it; or a Kaldi wav.scp, with its own ids. A space in a path is %20 in its id, as
        in `alpha-sv prepare`. Where an id has several parts, the first is taken for the speaker.
    store : path-like
        Folder of the store. One that is whole and was made from the same model and files is reused.
    finished : function, optional
        Called with the store before another process may write into its folder.

    Raises
    ------
    ValueError
        Nothing is found, two files have one id, a wav.scp has commands, or as `SpeakerModel.embed`.
    """
    with folder_lock(store):
        made = _embed_files(model, sources, store, batch_size, progress)
        if finished is not None:
            finished(made)
    return made


def _embed_files(model: SpeakerModel, sources, store, batch_size: int, progress: bool) -> EmbeddingStore:
    files = list_files(sources)
    items = recordings(list(files.values()), None, model.sample_rate)
    lengths = model.lengths(items)
    rows = ((utterance, os.path.abspath(file), file_state(file)) for utterance, file in files.items())
    key = input_key(itertools.chain(["whole files", model.embedder.fingerprint()], rows))
    speakers = [utterance.split("/")[0] if "/" in utterance else "" for utterance in files]
    writer = StoreWriter(store, list(files), speakers, ["test"] * len(files), model.embedding_dim, key)
    if writer.finished is not None:
        logger.info("%s holds these embeddings already", store)
        return writer.finished
    model.say_rates(items)
    todo = writer.missing()
    with tqdm(total=len(files), initial=len(files) - len(todo), unit="file", desc="embed", disable=not progress) as bar:
        for which, embeddings in embed_in_batches(
            model.embedder,
            [lengths[row] for row in todo],
            lambda i: items[todo[i]].samples(model.sample_rate),
            batch_size,
            workers=2,
        ):
            writer.write(todo[which], embeddings)
            bar.update(len(which))
    return writer.finish(num_utterances=len(files), model=model.embedder.config)


def list_files(sources: Sequence[str | os.PathLike]) -> dict[str, str]:
    """Id → path of every audio file that the sources name; see `embed_files`.

    Example
    -------
    >>> import tempfile
    >>> scp = Path(tempfile.mkdtemp(), "wav.scp")
    >>> _ = scp.write_text("a1 /data/a1.wav\\nb1 /data/my b1.wav\\n")
    >>> list_files([scp])
    {'a1': '/data/a1.wav', 'b1': '/data/my b1.wav'}
    """
    found: dict[str, str] = {}
    for source in map(Path, sources):
        if source.is_dir():
            inside = sorted(
                Path(folder, name)
                for folder, _, names in os.walk(source, followlinks=True)
                for name in names
                if Path(name).suffix.lower() in _EXTENSIONS and not name.startswith(".")
            )
            if not inside:
                raise ValueError(f"{source} has no audio in it ({' '.join(sorted(_EXTENSIONS))})")
            pairs = [(as_word(file.relative_to(source).as_posix()), str(file)) for file in inside]
        elif source.suffix == ".scp":
            pairs = _read_scp(source)
        else:
            pairs = [(as_word(source.as_posix()), str(source))]
        for utterance, file in pairs:
            if found.setdefault(utterance, file) != file:
                raise ValueError(f"{file} and {found[utterance]} would have one id, {utterance!r}; embed them apart")
    return found


def _read_scp(scp: Path) -> list[tuple[str, str]]:
    """(id, path) of each line of a wav.scp.
    Lines that are commands ("flac -dc a.flac |") are refused, never run."""
    try:
        text = read_text(scp)
    except OSError as error:
        raise ValueError(f"{scp} cannot be read: {error}") from error
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        utterance, *rest = line.strip().split(maxsplit=1)
        if not rest or rest[0].endswith("|"):
            raise ValueError(
                f"{scp}:{number}: not an id and a path, but {line.strip()[:80]!r}; commands are not run: write the "
                "audio to files first"
            )
        pairs.append((utterance, rest[0]))
    if not pairs:
        raise ValueError(f"{scp} names no files")
    return pairs
