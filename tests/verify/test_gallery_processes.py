"""Several processes in one gallery at once,
and processes that are killed: nothing lost, nothing half done."""

import multiprocessing
import os
import signal
import sqlite3
import time

import numpy as np
import pytest

from alpha_sv.verify.gallery import Gallery
from tests.fixtures.voices import SpectralModel, spoken

SAMPLES = 3
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
fork = multiprocessing.get_context("fork").Process if hasattr(os, "fork") else None


def recordings_of(number, seconds=1.6):
    return [spoken(number % 6, 10 * number + take, seconds) for take in range(SAMPLES)]


def work(path, worker, rounds):
    gallery = Gallery(path, SpectralModel())
    for turn in range(rounds):
        name = f"w{worker} {turn}"
        gallery.enrol(name, recordings_of(100 * worker + turn))
        found = gallery.identify(spoken(worker % 6, 0), threshold=0.9)
        assert found.candidates, name
        if turn % 2:
            gallery.remove(name)


def endless(path):
    gallery, turn = Gallery(path, SpectralModel()), 0
    while True:
        turn += 1
        gallery.enrol(f"n{turn}", recordings_of(turn, 1.0))
        if turn % 3 == 0:
            gallery.remove(f"n{turn - 1}")


def test_processes_share_a_gallery_that_none_of_them_made(tmp_path):
    path = tmp_path / "g.sqlite"
    workers = [fork(target=work, args=(path, worker, 4)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert Gallery(path).names() == sorted(f"w{worker} {turn}" for worker in range(4) for turn in (0, 2))
    assert {len(samples) for samples in Gallery(path).export()["people"].values()} == {SAMPLES}


def test_a_killed_process_leaves_whole_people_and_a_whole_file(tmp_path):
    path, rng = tmp_path / "g.sqlite", np.random.default_rng(0)
    for _ in range(8):
        process = fork(target=endless, args=(path,))
        process.start()
        time.sleep(0.15 + 0.3 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if path.exists():
            gallery = Gallery(path, SpectralModel())
            people = gallery.export()["people"]
            assert sorted(people) == gallery.names()
            assert all(len(samples) == SAMPLES for samples in people.values())
            with sqlite3.connect(path) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert db.execute("SELECT count(*) FROM meta WHERE key = 'scrub'").fetchone() == (0,)
            db.close()
            for name in gallery.names():
                gallery.remove(name)
    assert path.exists()


def test_a_removal_waits_for_a_reader_and_then_leaves_nothing(tmp_path):
    path = tmp_path / "g.sqlite"
    gallery = Gallery(path, SpectralModel())
    gallery.enrol("Unmistakable", recordings_of(1))
    start = multiprocessing.get_context("fork").Event()
    remover = fork(target=lambda: (start.wait(), Gallery(path).remove("Unmistakable")))
    remover.start()  # before the reader: a connection must not be carried through a fork
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM samples").fetchall()  # holds the old pages
    start.set()
    time.sleep(0.5)
    assert reader.execute("SELECT name FROM people").fetchall() == [("Unmistakable",)]  # its own consistent view
    reader.execute("COMMIT")
    remover.join(60)
    assert remover.exitcode == 0
    reader.close()
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Unmistakable" not in left
