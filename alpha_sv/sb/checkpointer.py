"""SpeechBrain's Checkpointer, made safe against being killed while it writes or deletes.

SpeechBrain 1.1 recognises a checkpoint by its metafile and writes that file first, so a run killed half-way through a
save leaves a folder that passes for whole and breaks the resume. Here the metafile appears last, after everything
else is on disk, and disappears first.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from speechbrain.utils.checkpoints import CKPT_PREFIX, METAFNAME, Checkpointer
from speechbrain.utils.distributed import if_main_process

_PENDING = METAFNAME + ".pending"


class SafeCheckpointer(Checkpointer):
    """Drop-in for `speechbrain.utils.checkpoints.Checkpointer`; same arguments, same folders."""

    def save_checkpoint(self, *args, **kwargs):
        checkpoint = super().save_checkpoint(*args, **kwargs)
        if if_main_process():
            for file in checkpoint.path.iterdir():
                with open(file, "rb+") as handle:
                    os.fsync(handle.fileno())
            os.replace(checkpoint.path / _PENDING, checkpoint.path / METAFNAME)
            self._remove_unfinished()
        return checkpoint

    def _save_checkpoint_metafile(self, fpath, *args, **kwargs):
        return super()._save_checkpoint_metafile(Path(fpath).with_name(_PENDING), *args, **kwargs)

    @staticmethod
    def _delete_checkpoint(checkpoint, verbosity=None):
        (Path(checkpoint.path) / METAFNAME).unlink()
        shutil.rmtree(checkpoint.path)

    def _remove_unfinished(self) -> None:
        for folder in Path(self.checkpoints_dir).glob(CKPT_PREFIX + "*"):
            if folder.is_dir() and not (folder / METAFNAME).exists():
                shutil.rmtree(folder)
