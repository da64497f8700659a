"""What a killed process leaves half written goes at the next start; nothing else does."""

import os
import subprocess
import sys

import pytest

from alpha_sv.files import clear_parts

KILLED = """
import os, sys
from alpha_sv.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write("half")
    file.flush()
    os._exit(137)
"""


def test_the_half_written_files_of_killed_processes_go(tmp_path):
    run = tmp_path / "run"
    for name in ("manifest.csv", "save/CKPT+1/model.ckpt", "a/with.part", "b/été.txt"):
        code = subprocess.run([sys.executable, "-c", KILLED, str(run / name)], check=False).returncode
        assert code == 137 and not (run / name).exists()
    others = {run / name for name in (".hidden", "a.part", ".a.part", ".a.short.part", "save/.cache.x1y2z3a4.partial")}
    for path in others:
        path.touch()
    (run / ".folder.x1y2z3a4.part").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.a.x1y2z3a4.part").touch()
    (run / "link").symlink_to(tmp_path / "elsewhere")
    assert clear_parts(run, older_than=3600) == []
    names = {os.path.basename(path).rsplit(".", 2)[0] for path in clear_parts(run)}
    assert names == {".manifest.csv", ".model.ckpt", ".with.part", ".été.txt"}
    assert {path for path in run.rglob("*") if path.is_file()} == others
    assert (tmp_path / "elsewhere/.a.x1y2z3a4.part").exists()


def test_nothing_to_clear(tmp_path):
    assert clear_parts(tmp_path / "nowhere") == []


def test_old_leftovers_of_a_conversion_go(tmp_path, monkeypatch):
    from alpha_sv.data.corpus.convert import convert_tree

    for name in ("s1/a", "s1/b", "s2/a", "s2/b"):
        path = tmp_path / f"aac/{name}.m4a"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    old, new = (tmp_path / f"wav/s1/.{name}.wav.4711.part" for name in "ab")
    old.parent.mkdir(parents=True)
    for path in (old, new):
        path.write_bytes(b"RIFF")
    os.utime(old, (0, 0))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="ffmpeg is not on the PATH"):
        convert_tree(tmp_path / "aac", tmp_path / "wav", progress=False)
    assert not old.exists() and new.exists()
