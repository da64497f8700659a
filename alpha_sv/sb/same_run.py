"""A folder with checkpoints is continued only as the run it was begun as."""

from __future__ import annotations

import json
from pathlib import Path

import ruamel.yaml
from speechbrain.utils.distributed import if_main_process

from alpha_sv.files import atomic_write


def _has_checkpoints(output: Path) -> bool:
    return any((output / "save").glob("CKPT*"))


def refuse_other_data(output: Path, manifest: str, trials: str) -> None:
    """With other files or speakers a prototype would change its speaker, or a test speaker turn up in training."""
    stamp, now = output / "save" / "data.json", {"manifest": manifest, "development trials": trials}
    if stamp.is_file() and _has_checkpoints(output):
        before = json.loads(stamp.read_text(encoding="utf-8"))
        if changed := [name for name in now if now[name] != before.get(name)]:
            raise ValueError(
                f"{output} holds a run on other data (changed: {', '.join(changed)}): its prototypes belong to other "
                "speakers. Choose another output_folder, or delete this one"
            )
    if if_main_process():
        with atomic_write(stamp) as file:
            json.dump(now, file, indent=1)


def refuse_other_settings(output: Path, resolved: str) -> None:
    """A folder with checkpoints is continued only with the settings it was begun with."""
    before = output / "hyperparams.yaml"
    if not (before.is_file() and _has_checkpoints(output)):
        return
    old, new = _settings(before.read_text(encoding="utf-8")), _settings(resolved)
    if changed := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
        raise ValueError(
            f"{output} holds a run with other settings ({', '.join(changed)}): continuing it would mix the two. Choose "
            "another output_folder, or delete this one"
        )


# may change between two sittings: the machine's side of a run, and where its inputs and outputs lie (the data are
# compared themselves)
_FREE_SETTINGS = {
    *("num_workers", "log_interval", "ckpt_interval_minutes", "ckpt_interval_steps"),
    *("output_folder", "checkpointer", "data_folder", "trials", "valid_trials", "exclude_speakers"),
    *("prepared", "tensorboard"),
}
_FREE_BUT_GIVEN = {"noise_folder", "rir_folder"}  # forgotten on resuming, the rest of the run would be without them


def _settings(resolved: str) -> dict[str, object]:
    """Top-level key → what it says, as plain lists, dictionaries and (tag, value), without free settings."""
    return _plain(ruamel.yaml.YAML().load(resolved))[1]


def _plain(node, key: str = ""):
    if key in _FREE_BUT_GIVEN:
        return "given" if node not in (None, "") else ""
    tag = str(getattr(getattr(node, "tag", None), "value", None))
    if isinstance(node, dict):
        return tag, {name: _plain(value, name) for name, value in node.items() if name not in _FREE_SETTINGS}
    if isinstance(node, list):
        return tag, [_plain(value) for value in node]
    return tag, str(getattr(node, "value", node))
