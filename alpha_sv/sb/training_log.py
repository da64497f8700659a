"""The training log, which neither a kill nor a resume makes wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import if_main_process

from alpha_sv.files import atomic_write, parse_json, read_json


@register_checkpoint_hooks
class TrainingLog:
    """One JSON object a line; a checkpoint holds the
    number of lines, so a resumed run never repeats one.

    Parameters
    ----------
    path : path-like
        The file.
    tensorboard : path-like, optional
        Folder for the same numbers as TensorBoard events.
        ValueError if the package is not installed.

    Example
    -------
    >>> import tempfile
    >>> log = TrainingLog(os.path.join(tempfile.mkdtemp(), "train_log.jsonl"))
    >>> log.append({"kind": "train", "step": 1})
    >>> log.path.read_text()
    '{"kind": "train", "step": 1}\\n'
    """

    def __init__(self, path: str | os.PathLike, tensorboard: str | os.PathLike | None = None):
        self.path, self.lines, self._trimmed = Path(path), 0, False
        self._events, self._writer = tensorboard, None
        if tensorboard is not None:
            try:
                import torch.utils.tensorboard  # noqa: F401
            except ImportError as error:
                raise ValueError("tensorboard: True needs the package: pip install tensorboard") from error

    def append(self, record: dict) -> None:
        if not self._trimmed:
            self._trim()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.lines += 1
        if self._writer is not None:
            self._add_event(record)
            self._writer.flush()

    def _add_event(self, record: dict) -> None:
        for name, value in record.items():
            if name not in ("kind", "step") and value is not None:
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def _trim(self) -> None:
        """Forget what a run that was killed wrote after its last checkpoint;
        the events are those of the lines left."""
        kept = self._kept()
        with atomic_write(self.path, "wb") as file:
            file.write(b"".join(kept))
        if self._events is not None:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self._events, ignore_errors=True)
            self._writer = SummaryWriter(self._events, purge_step=0)  # a TensorBoard that is open forgets the old ones
            for row in self._rows(kept):
                self._add_event(row)
        self._trimmed = True

    def _kept(self) -> list[bytes]:
        """The lines up to the last checkpoint, and those that were added since."""
        return self.path.read_bytes().splitlines(keepends=True)[: self.lines] if self.path.exists() else []

    def _rows(self, lines: list[bytes]) -> Iterator[dict]:
        for number, line in enumerate(lines, 1):
            yield parse_json(line, f"{self.path}:{number}", like={"kind": str, "step": int}, finite=False)

    def lowest(self, name: str) -> float:
        """The lowest value of a figure so far; inf if there is none.

        >>> import tempfile
        >>> log = TrainingLog(os.path.join(tempfile.mkdtemp(), "train_log.jsonl"))
        >>> [
        ...     log.append({"kind": "valid", "step": step, "eer": eer})
        ...     for step, eer in ((1, 0.2), (2, 0.3))
        ... ] and None
        >>> log.lowest("eer")
        0.2
        """
        return min((row[name] for row in self._rows(self._kept()) if name in row), default=math.inf)

    @mark_as_saver
    def _save(self, path):
        if if_main_process():  # the only one that appends
            Path(path).write_text(str(self.lines), encoding="utf-8")

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        self.lines, self._trimmed = read_json(path, like=int), False
