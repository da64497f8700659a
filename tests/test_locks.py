"""One writer at a time, also over processes; what killed ones leave goes with the next, what living ones write not."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from alpha_sv.files import FolderInUse, clear_parts, folder_lock, whole_folder
from alpha_sv.locks import flock

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


HOLD = """
import os, sys, time
from alpha_sv.files import folder_lock
with folder_lock(sys.argv[1]):
    if len(sys.argv) > 2 and os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path; with `worker`, one that has forked."""
    started = []

    def start(*worker):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), *worker], stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_another_process_is_refused_by_name_until_the_first_ends(tmp_path, holder):
    process = holder()
    with pytest.raises(FolderInUse, match=rf"in use by process {process.pid} on .* since 20"):
        with folder_lock(tmp_path):
            pass
    process.kill()
    process.wait()
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".lock").exists()


def test_a_killed_holder_is_taken_over_with_a_word_though_its_workers_live_on(tmp_path, holder, caplog):
    process = holder("forks")
    os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.1)
    with folder_lock(tmp_path):
        assert f"process {process.pid} on" in caplog.text and "ended without a word" in caplog.text


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}', "null", "\x00" * 10])
def test_a_lock_file_without_a_holder_is_no_obstacle(tmp_path, left):
    (tmp_path / ".lock").write_text(left)
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_holder_that_has_not_said_who_it_is_yet_is_called_so(tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        flock(file)
        with pytest.raises(FolderInUse, match="in use by a process just begun; wait"), folder_lock(tmp_path):
            pass


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path):
        raise ZeroDivisionError
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize(("pid", "refused"), [("own", True), ("dead", False)])
def test_without_locks_of_the_system_a_dead_process_is_known_by_its_number(tmp_path, monkeypatch, pid, refused):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    number = os.getpid() if pid == "own" else dead.pid
    (tmp_path / ".lock").write_text(json.dumps({"pid": number, "host": platform.node(), "start": "2026"}))
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    if refused:
        with pytest.raises(FolderInUse), folder_lock(tmp_path):
            pass
    else:
        with folder_lock(tmp_path):
            pass


def test_who_waits_gets_a_folder_though_its_last_holder_removes_it(tmp_path):
    folder, inside = tmp_path / "downloads", []

    def work():
        with folder_lock(folder, wait=True):
            inside.append(1)
            time.sleep(0.01)
            assert inside.pop() == 1 and not inside, "alone"

    with ThreadPoolExecutor(8) as pool:
        [done.result() for done in [pool.submit(work) for _ in range(40)]]
    assert not folder.exists()
