"""Tar shards of a corpus, for file systems that hate a million files:
webdataset's layout, read by offset.

    shard-train-000000.tar     <key>.wav and <key>.json, <key>.wav and <key>.json, …
    shard-train-000000.json    where each audio file lies; from what it was made

The bytes of the audio files are unchanged, and the JSON of an utterance holds the other columns of
its manifest row. A shard holds one split, in an order shuffled by seed, so that a sequential reader
(webdataset) also gets many speakers close together. The same utterances and seed give the same
bytes anywhere. Our own readers do not stream: see `alpha_sv.data.audio.tar_member` for why.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from alpha_sv.data.audio.read import read_header
from alpha_sv.data.audio.tar_member import Member, parse_member
from alpha_sv.data.corpus.manifest import SPLITS, Utterance
from alpha_sv.files import InputError, atomic_write, file_state, input_key, read_json

FORMAT = "alpha_sv.shard/1"
_SLAB = 64  # files in memory at a time
_BLOCK = 512  # tar: a header is one block, and data is padded to whole blocks


def write_shards(
    utterances: Sequence[Utterance],
    folder: str | os.PathLike,
    samples_per_shard: int = 4096,
    seed: int = 1234,
    workers: int = 8,
    progress: bool = True,
) -> list[Utterance]:
    """Copy the files of utterances into shards;
    an interrupted call goes on with the first shard it lacks.

    Parameters
    ----------
    utterances : sequence of Utterance
        Rows of a manifest, with paths of loose files.
    folder : path-like
        Made if need be. A shard that is there is kept if it is whole and was made
        from these very files (name, size, date) with this seed and number of samples.
    samples_per_shard : int
        4096 files of 8 s are about 1 GB as 16-bit wav;
        the 1.1 million of VoxCeleb2 then make 267 shards.
    seed : int
        Seed of the order; not negative. Another one gives another order.
    workers : int
        Threads that read.

    Returns
    -------
    list of Utterance
        The same rows in the same order, with `path` a place in a shard.

    Raises
    ------
    ValueError
        A file is missing, damaged (AudioError), in a tar already or not what its row says;
        two files get one key; `folder` holds shards of something else.

    Example
    -------
    >>> import tempfile, soundfile
    >>> root = os.path.realpath(tempfile.mkdtemp())
    >>> soundfile.write(f"{root}/a.wav", np.ones(160), 16000)
    >>> row = Utterance("s1/a.wav", f"{root}/a.wav", "s1", "", 160, 16000, 1, "train")
    >>> [stored] = write_shards([row], f"{root}/shards", progress=False)
    >>> stored.path.removeprefix(root)
    '/shards/shard-train-000000.tar:512:364'
    >>> read_header(stored.path)
    (160, 16000, 1)
    """
    if samples_per_shard < 1 or seed < 0 or workers < 1:
        raise ValueError(
            f"need samples_per_shard >= 1, seed >= 0 and workers >= 1, got {samples_per_shard}, {seed} and {workers}"
        )
    if inside := [u.path for u in utterances if parse_member(u.path)]:
        raise ValueError(f"{inside[0]} is in a shard already; give the manifest of the loose files")
    _check_keys(utterances)
    folder = Path(os.path.abspath(os.path.expanduser(folder)))
    plan = _plan(utterances, samples_per_shard, seed)
    if others := sorted({path.name for path in folder.glob("shard-*.tar")} - plan.keys()):
        raise ValueError(f"{folder} holds shards of something else ({others[0]}); delete them or give another folder")
    stored = list(utterances)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(stored), unit="file", desc="shards", disable=not progress) as bar,
    ):
        for name, rows in plan.items():
            places = _shard(folder / name, [utterances[row] for row in rows], pool, bar)
            for row, (offset, size) in zip(rows, places, strict=True):
                path = str(Member(str(folder / name), offset, size))
                stored[row] = dataclasses.replace(utterances[row], path=path)
    return stored


def key_of(utt_id: str) -> str:
    """webdataset's key of an utterance.
    It takes all after the first dot of a name for its extension.

    Example
    -------
    >>> key_of("id10270/5r0dWxy17C8/00001.wav"), key_of("s1/v1.2/part.1.flac")
    ('id10270/5r0dWxy17C8/00001', 's1/v1.2/part_1')
    """
    path = PurePosixPath(utt_id)
    return str(path.with_name(path.stem.replace(".", "_")))


def _check_keys(utterances: Sequence[Utterance]) -> None:
    owner: dict[str, str] = {}
    for utterance in utterances:
        other = owner.setdefault(key_of(utterance.utt_id), utterance.utt_id)
        if other != utterance.utt_id:
            raise ValueError(
                f"{other!r} and {utterance.utt_id!r} would both have the key {key_of(other)!r} in a shard; rename one"
            )


def _plan(utterances: Sequence[Utterance], samples_per_shard: int, seed: int) -> dict[str, list[int]]:
    """Name of each shard → rows in it;
    depends on the IDs and the seed, not on the order of the rows."""
    plan = {}
    for split in SPLITS:
        rows = [row for row, utterance in enumerate(utterances) if utterance.split == split]
        rows.sort(key=lambda row: utterances[row].utt_id)
        order = np.random.default_rng(seed).permutation(len(rows))
        for number, first in enumerate(range(0, len(rows), samples_per_shard)):
            chosen = order[first : first + samples_per_shard]
            plan[f"shard-{split}-{number:06d}.tar"] = [rows[k] for k in chosen]
    return plan


def _shard(path: Path, utterances: Sequence[Utterance], pool: ThreadPoolExecutor, bar: tqdm) -> list[tuple[int, int]]:
    """(offset, size) of each audio file, from the shard that is there or from a new one."""
    stamps = list(pool.map(file_state, [utterance.path for utterance in utterances]))
    if None in stamps:
        absent = utterances[stamps.index(None)].path
        raise ValueError(f"{absent}: no such file; check the path, or prepare the data again")
    key = input_key([FORMAT, [[_facts(u), stamp] for u, stamp in zip(utterances, stamps, strict=True)]])
    index = path.with_suffix(".json")
    known = _index(index)
    if path.exists():
        if known.get("key") != key:  # overwriting it could put other speech under the paths of an older manifest
            raise ValueError(
                f"{path} was made from other files, or with another seed or number of samples; delete the shards or "
                "give another folder"
            )
        if path.stat().st_size == known["size"] and len(known["places"]) == len(utterances):
            bar.update(len(utterances))
            return known["places"]
    places = []
    with atomic_write(path, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for first in range(0, len(utterances), _SLAB):
                slab = utterances[first : first + _SLAB]
                for utterance, audio in zip(slab, pool.map(_audio, slab), strict=True):
                    name = key_of(utterance.utt_id)
                    _add(tar, name + os.path.splitext(utterance.path)[1].lower(), audio)
                    padded = -(-len(audio) // _BLOCK) * _BLOCK
                    places.append((file.tell() - padded, len(audio)))
                    _add(tar, f"{name}.json", json.dumps(_facts(utterance), sort_keys=True).encode())
                    bar.update()
        # before the shard gets its name: a shard without its index is none of ours
        with atomic_write(index) as text:
            json.dump({"format": FORMAT, "key": key, "size": file.tell(), "places": places}, text)
    return places


def _index(path: Path) -> dict:
    """What is known of a shard; nothing if its index is missing or damaged."""
    try:
        known = read_json(path, like={"key": str, "size": int, "places": [[int]]})
    except (FileNotFoundError, InputError):
        return {}
    return known if {len(place) for place in known["places"]} == {2} else {}


def _facts(utterance: Utterance) -> dict:
    facts = dataclasses.asdict(utterance)
    del facts["path"]
    return facts


def _audio(utterance: Utterance) -> bytes:
    found = read_header(utterance.path)
    if found != (utterance.num_samples, utterance.sample_rate, utterance.channels):
        raise ValueError(
            f"{utterance.path}: samples, rate and channels are {found}, the manifest says {utterance.num_samples}, "
            f"{utterance.sample_rate} and {utterance.channels}; the file has changed: prepare the data again"
        )
    return Path(utterance.path).read_bytes()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner 0, date 0, mode 644: nothing of the machine gets in
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
