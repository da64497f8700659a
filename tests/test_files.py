"""The lock of a folder: one holder at a time, also over processes; what a kill leaves is taken over."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from alpha_sv.files import FolderInUse, folder_lock, is_fresh
from tests.batteries import damaged_files

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


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_a_damaged_stamp_means_that_the_outputs_are_made_again(tmp_path, content):
    (tmp_path / "done.json").write_bytes(content)
    assert not is_fresh(tmp_path / "done.json", "key")
