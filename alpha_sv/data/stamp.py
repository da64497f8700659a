"""Skip work that is done: outputs are reused only if every input is the same and the outputs are whole.

The stamp is a JSON file with a key, the hash of all inputs, and the SHA-256 of every output. What is not part
of the key can change unnoticed, so everything that can alter an output belongs into it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from alpha_sv.data.files import atomic_write, sha256_file


def input_key(inputs: object) -> str:
    """SHA-256 of the canonical JSON of `inputs` (dicts, lists, strings, numbers).

    >>> input_key({"a": 1, "b": [2]}) == input_key({"b": [2], "a": 1})
    True
    """
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_fresh(stamp: str | os.PathLike, key: str) -> bool:
    """Whether the outputs beside `stamp` were made from inputs with this key and have not changed since.

    A missing, unreadable or foreign stamp means no: the outputs are then made again.
    """
    stamp = Path(stamp)
    if not stamp.is_file():
        return False
    try:
        content = json.loads(stamp.read_bytes())
    except ValueError:
        return False
    if not isinstance(content, dict) or content.get("key") != key or not isinstance(content.get("outputs"), dict):
        return False
    outputs = {stamp.parent / name: digest for name, digest in content["outputs"].items()}
    return all(path.is_file() and sha256_file(path) == digest for path, digest in outputs.items())


def write_stamp(stamp: str | os.PathLike, key: str, outputs: Sequence[str], **facts) -> None:
    """Write the stamp of `outputs`, names in its own folder; `facts` are kept beside them for the reader.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "list.txt").write_text("a b c")
    >>> write_stamp(folder / "done.json", input_key([1, 2]), ["list.txt"])
    >>> is_fresh(folder / "done.json", input_key([1, 2])), is_fresh(folder / "done.json", input_key([1, 3]))
    (True, False)
    >>> _ = (folder / "list.txt").write_text("a b")
    >>> is_fresh(folder / "done.json", input_key([1, 2]))
    False
    """
    stamp = Path(stamp)
    digests = {name: sha256_file(stamp.parent / name) for name in outputs}
    with atomic_write(stamp) as file:
        json.dump({"key": key, "outputs": digests, **facts}, file, indent=1)
        file.write("\n")
