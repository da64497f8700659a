"""What is written is whole or absent;
what killed processes leave goes with the next, what living ones write not."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from alpha_sv.files import clear_parts, whole_folder

WRITES = """
import sys, time
from alpha_sv.files import atomic_write, whole_folder
name, kind = sys.argv[1:]
with whole_folder(name) if kind == "folder" else atomic_write(name) as part:
    if kind != "folder":
        part.write("half")
        part.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writer(path, kind):
    """A process in the middle of writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_removes_the_parts_of_the_dead_and_no_others(tmp_path, kind):
    with writer(tmp_path / "living", kind) as living:
        with writer(tmp_path / "dead", kind) as dead:
            dead.send_signal(signal.SIGKILL)
        assert len(list(tmp_path.glob(".*.part"))) == 2
        with writer(tmp_path / "next", "file") as other:
            other.communicate("done")
        assert [path.name.split(".")[1] for path in tmp_path.glob(".*.part")] == ["living"]
        assert clear_parts(tmp_path) == []
        living.communicate("done")
        assert (tmp_path / "living").exists() and not list(tmp_path.glob(".*.part"))


def test_a_folder_is_whole_or_absent_and_never_mixed_with_another(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "model") as part:
        (part / "a").touch()
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)
    (tmp_path / "model").mkdir()  # an empty one may be there
    with pytest.raises(ValueError, match="model is there already"), whole_folder(tmp_path / "model") as slower:
        (slower / "slower").touch()
        with whole_folder(tmp_path / "model") as faster:
            (faster / "faster").touch()
    assert os.listdir(tmp_path) == ["model"] and os.listdir(tmp_path / "model") == ["faster"]
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755
