"""The lock of a folder: one holder at a time, also over processes; what a kill leaves is taken over."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from alpha_sv.files import FolderInUse, file_state, folder_lock, input_key, is_fresh
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


def test_the_key_of_a_stream_tells_every_sequence_of_parts_from_every_other():
    sequences = [
        [],
        [[]],
        ["a"],
        ["a", "b"],
        ["b", "a"],
        [["a", "b"]],
        ["ab"],
        ['a"\n"b'],
        [1, 2],
        [12],
        [(1, None)],
        [b"a"],
        [b"a", b"b"],
        [b"ab"],
        [b'"a"\n'],
        [b"1 bytes\na"],
        [memoryview(b"abcd").cast("i")],
        ["/s/\udcff.wav"],
    ]
    keys = [input_key(iter(parts)) for parts in sequences]
    assert len(set(keys)) == len(keys) and keys == [input_key(part for part in parts) for parts in sequences]
    assert input_key(iter([memoryview(b"abcd")])) == input_key(iter([b"abcd"])), "a buffer is its bytes"


def test_the_key_of_many_rows_needs_no_memory():
    tracemalloc.start()
    try:
        input_key((number, "/data/" + "x" * 100) for number in range(20_000))
        assert tracemalloc.get_traced_memory()[1] < 100_000, "the rows have more than 2 MB"
    finally:
        tracemalloc.stop()


def test_the_state_of_a_file_follows_its_size_and_time_through_links(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"abc")
    os.utime(file, ns=(0, 10**18 + 1))
    link.symlink_to(file)
    assert file_state(file) == file_state(link) == (3, 10**18 + 1)
    file.unlink()
    assert file_state(file) is file_state(link) is None
