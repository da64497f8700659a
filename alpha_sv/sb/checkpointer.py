"""SpeechBrain's Checkpointer, made safe against being killed while it writes or deletes.

SpeechBrain 1.1 recognises a checkpoint by its metafile and writes that file first, so a run killed half-way through a
save leaves a folder that passes for whole and breaks the resume; one killed half-way through a deletion does too; and
of several processes one may wait for ever in a deletion. Here the metafile appears last, after everything else is on
disk, and lists what must be there; one process deletes for all; and a file is read as weights, never as code.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import (
    CKPT_PREFIX,
    DEFAULT_LOAD_HOOKS,
    METAFNAME,
    Checkpointer,
    ckpt_recency,
    get_default_hook,
    torch_recovery,
)
from speechbrain.utils.distributed import ddp_barrier, if_main_process

logger = logging.getLogger(__name__)

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
            self._remove_debris()
        ddp_barrier()  # from here on every process finds it
        return checkpoint

    def delete_checkpoints(
        self,
        *,
        num_to_keep=1,
        min_keys=None,
        max_keys=None,
        importance_keys=(ckpt_recency,),
        ckpt_predicate=None,
        verbosity=logging.INFO,
    ):
        """As the original, which lists the folder in every process and then waits for all of them once per checkpoint
        it found: a process that sees one more, or one fewer, waits for ever.
        """
        ddp_barrier()
        if if_main_process():
            keys = [{"min_key": key} for key in min_keys or ()] + [{"max_key": key} for key in max_keys or ()]
            keys += [{"importance_key": key} for key in importance_keys]
            found = [self.find_checkpoints(**key, ckpt_predicate=ckpt_predicate) for key in keys]
            kept = {c.path for checkpoints in found for c in checkpoints[:num_to_keep]}  # the best come first
            for path in {c.path for checkpoints in found for c in checkpoints} - kept:
                shutil.rmtree(path)
                logger.log(verbosity, "deleted checkpoint %s", path)
        ddp_barrier()

    def load_checkpoint(self, checkpoint):
        """As the original, whose `torch.load` leaves it to the environment whether a file may run code."""
        for name, value in self.recoverables.items():
            if get_default_hook(value, DEFAULT_LOAD_HOOKS) is torch_recovery:
                self.custom_load_hooks.setdefault(name, load_weights)
        super().load_checkpoint(checkpoint)

    def _save_checkpoint_metafile(self, fpath, meta_to_include=None, end_of_epoch=True):
        meta = {**(meta_to_include or {}), "files": sorted(self.recoverables)}
        return super()._save_checkpoint_metafile(Path(fpath).with_name(_PENDING), meta, end_of_epoch)

    def list_checkpoints(self):
        """The whole ones only."""
        return [c for c in super().list_checkpoints() if set(c.meta.get("files", ())) <= c.paramfiles.keys()]

    def _remove_debris(self) -> None:
        whole = {checkpoint.path for checkpoint in self.list_checkpoints()}
        for folder in Path(self.checkpoints_dir).glob(CKPT_PREFIX + "*"):
            if folder.is_dir() and folder not in whole:
                shutil.rmtree(folder)


def load_weights(module, path, end_of_epoch: bool = True) -> None:
    """Read the state of a module or an optimizer, and nothing but tensors, numbers and containers of them.

    Raises
    ------
    ValueError
        The file holds something else, which could run code.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} holds more than weights, or is damaged; delete that checkpoint") from error
    module.load_state_dict(state)


def ends_an_epoch(checkpoint) -> bool:
    """Whether a checkpoint was written at the end of an epoch rather than inside it."""
    return checkpoint.meta["end-of-epoch"]
