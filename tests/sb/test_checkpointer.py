"""SpeechBrain writes a checkpoint's metafile first:
a save cut short passes for whole there, and must not here."""

import pytest
import torch
from speechbrain.utils.checkpoints import METAFNAME, Checkpointer

from alpha_sv.sb.checkpointer import SafeCheckpointer


class DiesWhileSaved(torch.nn.Linear):
    dies = False

    def state_dict(self, *args, **kwargs):
        if self.dies:
            raise OSError("no space left on device")
        return super().state_dict(*args, **kwargs)


def save_two(cls, folder):
    """One whole checkpoint with weights 1, then one that dies half-way with weights 2."""
    first, second = torch.nn.Linear(2, 2), DiesWhileSaved(2, 2)
    checkpointer = cls(folder, {"a_first": first, "b_second": second})
    for module in (first, second):
        torch.nn.init.constant_(module.weight, 1)
    checkpointer.save_checkpoint()
    torch.nn.init.constant_(first.weight, 2)
    second.dies = True
    with pytest.raises(OSError):
        checkpointer.save_checkpoint()
    second.dies = False
    return checkpointer, first


def test_half_written_checkpoint_is_not_taken_for_whole(tmp_path):
    checkpointer, first = save_two(SafeCheckpointer, tmp_path)
    checkpoint = checkpointer.recover_if_possible()
    assert len(checkpoint.paramfiles) == 2
    assert (first.weight == 1).all()
    checkpointer.save_checkpoint()
    folders = list(tmp_path.iterdir())
    assert len(folders) == 2 and all((folder / METAFNAME).exists() for folder in folders), "the debris is removed"


def test_why_it_is_needed(tmp_path):
    """If this fails, SpeechBrain writes its metafile last now and SafeCheckpointer may go."""
    checkpointer, _ = save_two(Checkpointer, tmp_path)
    with pytest.raises(Exception, match="b_second"):
        checkpointer.recover_if_possible()


def test_half_deleted_checkpoint_is_not_taken_for_whole(tmp_path, monkeypatch):
    checkpointer = SafeCheckpointer(tmp_path, {"one": torch.nn.Linear(2, 2), "two": torch.nn.Linear(2, 2)})
    kept = checkpointer.save_checkpoint(meta={"eer": 0.1})

    def killed_after_one_file(path, *args, **kwargs):
        (path / "one.ckpt").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("speechbrain.utils.checkpoints.shutil.rmtree", killed_after_one_file)
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save_and_keep_only(meta={"eer": 0.2}, num_to_keep=1)
    assert not (kept.path / "one.ckpt").exists() and (kept.path / "two.ckpt").exists()
    assert [c.meta["eer"] for c in checkpointer.list_checkpoints()] == [0.2]
    checkpointer.save_checkpoint()
    assert not kept.path.exists(), "the debris is removed"


def test_keep_only_best_and_latest(tmp_path):
    module = torch.nn.Linear(2, 2)
    checkpointer = SafeCheckpointer(tmp_path, {"module": module})
    for value in (3.0, 1.0, 2.0):
        torch.nn.init.constant_(module.weight, value)
        checkpointer.save_and_keep_only(meta={"eer": value}, min_keys=["eer"])
    assert sorted(c.meta["eer"] for c in checkpointer.list_checkpoints()) == [1.0, 2.0]
    checkpointer.recover_if_possible(min_key="eer")
    assert (module.weight == 1).all()


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


@pytest.mark.parametrize("environment", [None, "1"])
def test_checkpoint_from_elsewhere_cannot_run_code(environment, tmp_path, monkeypatch):
    """Not even where the environment has torch trust files by default, as some installations do."""
    if environment:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    module, proof = torch.nn.Linear(2, 2), tmp_path / "it_ran"
    optimizer = torch.optim.Adam(module.parameters())
    checkpointer = SafeCheckpointer(tmp_path / "save", {"module": module, "optimizer": optimizer})
    checkpoint = checkpointer.save_checkpoint()
    assert checkpointer.recover_if_possible().path == checkpoint.path
    for name in ("module", "optimizer"):
        honest = checkpoint.paramfiles[name].read_bytes()
        torch.save({"weight": Payload(proof)}, checkpoint.paramfiles[name])
        with pytest.raises(ValueError, match=f"{name}.ckpt holds more than weights"):
            checkpointer.load_checkpoint(checkpoint)
        assert not proof.exists()
        checkpoint.paramfiles[name].write_bytes(honest)


def _cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


DAMAGE = {
    "cut in half": _cut,
    "emptied": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(b"\x80garbage" * 50),
    "one byte": _flip,
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("harm", DAMAGE)
@pytest.mark.parametrize("file", ["module.ckpt", "optimizer.ckpt", METAFNAME])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_used(tmp_path, caplog, file, harm):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    checkpointer = SafeCheckpointer(tmp_path, {"module": module, "optimizer": optimizer})
    saved = []
    for value in (1.0, 2.0):
        torch.nn.init.constant_(module.weight, value)
        saved.append(checkpointer.save_checkpoint(meta={"eer": value}))
    DAMAGE[harm](saved[1].path / file)
    checkpointer = SafeCheckpointer(tmp_path, {"module": module, "optimizer": optimizer})
    assert checkpointer.recover_if_possible().path == saved[0].path
    assert (module.weight == 1).all()
    if (file, harm) not in ((METAFNAME, "gone"), ("module.ckpt", "gone")):  # those look like a save cut short
        assert "is damaged" in caplog.text
    checkpointer.save_checkpoint()
    assert saved[0].path.exists()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew_in_silence(tmp_path):
    checkpointer = SafeCheckpointer(tmp_path, {"module": torch.nn.Linear(2, 2)})
    _cut(checkpointer.save_checkpoint().paramfiles["module"])
    for _ in range(2):
        with pytest.raises(ValueError, match="every checkpoint is damaged .*delete it to begin anew"):
            SafeCheckpointer(tmp_path, {"module": torch.nn.Linear(2, 2)}).recover_if_possible()
