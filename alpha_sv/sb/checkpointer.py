"""SpeechBrain's Checkpointer, made safe against being killed while it writes or deletes.

SpeechBrain 1.1 recognises a checkpoint by its metafile and writes that file first, so a run killed
half-way through a save leaves a folder that passes for whole and breaks the resume; one killed
half-way through a deletion does too; and of several processes one may wait for ever in a deletion.
Here the metafile appears last, after everything else is on disk, and lists what must be there with
sizes and hashes; a checkpoint that was damaged later is set aside and the one before it is used;
one process deletes for all; and a file is read as weights, never as code.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from pathlib import Path

import torch
import yaml
from speechbrain.utils.checkpoints import (
    CKPT_PREFIX,
    DEFAULT_LOAD_HOOKS,
    METAFNAME,
    PARAMFILE_EXT,
    Checkpoint,
    Checkpointer,
    ckpt_recency,
    get_default_hook,
    torch_recovery,
)
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from alpha_sv.files import libtorch_writes, sha256_file

logger = logging.getLogger(__name__)

_PENDING = METAFNAME + ".pending"
# in C where PyYAML has it: every save reads the metafiles of all checkpoints, a dozen times
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SafeCheckpointer(Checkpointer):
    """Drop-in for `speechbrain.utils.checkpoints.Checkpointer`; same arguments, same folders."""

    def save_checkpoint(self, *args, **kwargs):
        with libtorch_writes(self.checkpoints_dir):
            checkpoint = super().save_checkpoint(*args, **kwargs)
        if if_main_process():
            pending = checkpoint.path / _PENDING
            meta = yaml.safe_load(pending.read_text(encoding="utf-8"))
            parts = sorted(file for file in checkpoint.path.rglob("*") if file.is_file() and file != pending)
            names = {file.relative_to(checkpoint.path).as_posix(): file for file in parts}
            meta["files"] = {n: {"bytes": f.stat().st_size, "sha256": sha256_file(f)} for n, f in names.items()}
            pending.write_text(yaml.safe_dump(meta), encoding="utf-8")
            for file in (*parts, pending):
                with open(file, "rb+") as handle:
                    os.fsync(handle.fileno())
            os.replace(pending, checkpoint.path / METAFNAME)
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
        """As the original, which lists the folder in every process and then waits for all of them
        once per checkpoint it found: a process that sees one more, or one fewer, waits for ever.
        """
        ddp_barrier()
        if if_main_process():
            keys = [{"min_key": key} for key in min_keys or ()] + [{"max_key": key} for key in max_keys or ()]
            keys += [{"importance_key": key} for key in importance_keys]
            found = [self.find_checkpoints(**key, ckpt_predicate=ckpt_predicate) for key in keys]
            kept = {c.path for checkpoints in found for c in checkpoints[:num_to_keep]}  # the best come first
            for path in {c.path for checkpoints in found for c in checkpoints} - kept:
                (path / METAFNAME).unlink()  # first: what a kill leaves of it is no checkpoint
                shutil.rmtree(path)
                logger.log(verbosity, "deleted checkpoint %s", path)
        ddp_barrier()

    def load_checkpoint(self, checkpoint):
        """As the original, whose `torch.load` leaves it
        to the environment whether a file may run code."""
        for name, value in self.recoverables.items():
            if get_default_hook(value, DEFAULT_LOAD_HOOKS) is torch_recovery:
                self.custom_load_hooks.setdefault(name, load_weights)
        super().load_checkpoint(checkpoint)

    def _save_checkpoint_metafile(self, fpath, meta_to_include=None, end_of_epoch=True):
        return super()._save_checkpoint_metafile(Path(fpath).with_name(_PENDING), meta_to_include or {}, end_of_epoch)

    def list_checkpoints(self):
        """The whole ones only: a metafile that can be read,
        and every file that it lists, of the size that it says."""
        return [c for c in map(_read, sorted(self._folders())) if c is not None]

    def recover_if_possible(self, *args, **kwargs):
        """Load the newest checkpoint (or the best,
        with `min_key`) whose files are what they were when it was saved.

        A damaged one is set aside, as `damaged-CKPT+…`,
        with a warning, and the one before it is loaded.

        Raises
        ------
        ValueError
            There are checkpoints, and all of them are damaged:
            to begin anew in silence would lose the run.
        """
        if if_main_process():
            for checkpoint in self.list_checkpoints():
                if damaged := _damaged_file(checkpoint):
                    self._set_aside(checkpoint.path, damaged)
            for folder in self._folders():
                if (folder / METAFNAME).is_file() and _read(folder) is None:
                    self._set_aside(folder, METAFNAME)
            self._remove_debris()  # of a kill within a save or a deletion; a run that is done saves no more
        ddp_barrier()
        aside = sorted(Path(self.checkpoints_dir).glob("damaged-*"))
        if aside and not self.list_checkpoints():
            raise ValueError(
                f"{self.checkpoints_dir}: every checkpoint is damaged ({', '.join(path.name for path in aside)}); "
                "copy the folder back from elsewhere, or delete it to begin anew"
            )
        return super().recover_if_possible(*args, **kwargs)

    def _folders(self):
        return (path for path in Path(self.checkpoints_dir).glob(CKPT_PREFIX + "*") if path.is_dir())

    def _set_aside(self, folder: Path, file: str) -> None:
        target = folder.with_name(f"damaged-{folder.name}")
        logger.warning("%s is damaged (%s): set aside as %s", folder, file, target.name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)

    def _remove_debris(self) -> None:
        whole = {checkpoint.path for checkpoint in self.list_checkpoints()}
        for folder in self._folders():
            if folder not in whole:
                shutil.rmtree(folder)


def _read(folder: Path) -> Checkpoint | None:
    """A checkpoint, if its metafile is there and every file that it lists has its size."""
    try:
        meta = yaml.load((folder / METAFNAME).read_text(encoding="utf-8"), _LOADER)
        files, _ = meta["files"], (meta["unixtime"], meta["end-of-epoch"])
        paramfiles = {file.stem: file for file in folder.iterdir() if file.suffix == PARAMFILE_EXT}
        if isinstance(files, dict):  # since version 0.2; before, the names alone
            whole = all((folder / name).stat().st_size == found["bytes"] for name, found in files.items())
        else:
            whole = set(files) <= paramfiles.keys()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    return Checkpoint(folder, meta, paramfiles) if whole else None


def _damaged_file(checkpoint: Checkpoint) -> str:
    """The name of the first file with other bytes than were saved; "" if there is none."""
    files = checkpoint.meta["files"]
    if not isinstance(files, dict):
        return ""
    return next((n for n, found in files.items() if sha256_file(checkpoint.path / n) != found["sha256"]), "")


def read_weights(path, mmap: bool = False) -> dict:
    """A saved state: tensors, numbers and containers of them,
    on the CPU; with `mmap` not read before they are used.

    Raises
    ------
    ValueError
        The file holds something else, which could run code, or is damaged.
    """
    damage = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, AttributeError, ValueError)
    try:
        return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except damage as error:
        raise ValueError(f"{path} holds more than weights, or is damaged; delete that checkpoint") from error


def load_weights(module, path, end_of_epoch: bool = True) -> None:
    """Give a module or an optimizer the state in a file;
    errors as `read_weights`, also for that of another network."""
    state = read_weights(path)
    try:
        module.load_state_dict(state)
    except (RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds the weights of another network ({error}); delete that checkpoint") from error


def ends_an_epoch(checkpoint) -> bool:
    """Whether a checkpoint was written at the end of an epoch rather than inside it."""
    return checkpoint.meta["end-of-epoch"]
