"""One writer at a time, also over processes, and over folders that come and go."""

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

from alpha_sv.locks import FolderInUse, folder_lock, in_turn
from alpha_sv.unfinished import flock

HOLD = """
import os, sys, time
from alpha_sv.files import folder_lock
with folder_lock(sys.argv[1]):
    if len(sys.argv) == 2 or os.fork() == 0:  # a copy speaks when it has closed its copy of the lock
        print("held", flush=True)
    time.sleep(30)
    os._exit(0)
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
    process.wait()
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


CROWD = """
import sys
from alpha_sv.locks import folder_lock, in_turn
hold = {"folder_lock": lambda folder: folder_lock(folder, wait=True), "in_turn": in_turn}[sys.argv[2]]
print("ready", flush=True)
sys.stdin.readline()
for _ in range(300):
    with hold(sys.argv[1] + "/new/newer"):
        open(sys.argv[1] + "/alone", "x").close()  # "x": refused while another one is within
        __import__("os").unlink(sys.argv[1] + "/alone")
"""


@pytest.mark.parametrize("lock", ["folder_lock", "in_turn"])
def test_a_crowd_that_makes_and_removes_one_folder_goes_through_it_one_by_one(tmp_path, lock):
    command = [sys.executable, "-c", CROWD, str(tmp_path), lock]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in crowd:
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in crowd] == [""] * 4


@pytest.mark.parametrize("folder", ["file", "file/below", "link"])
def test_a_folder_that_cannot_be_made_is_an_error_and_no_endless_wait(tmp_path, folder):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "far")
    (tmp_path / "gone").touch()
    for lock in (folder_lock, in_turn):
        with pytest.raises(OSError), lock(tmp_path / folder):
            pass
