"""The file of a gallery: when it comes into being."""

import shutil
import sqlite3
import stat

import numpy as np
import pytest

from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.gallery_file import _SCHEMA, APPLICATION_ID, GalleryError
from tests.fixtures.voices import SpectralModel, spoken


def test_the_file_comes_into_being_with_its_first_sample(tmp_path):
    path = tmp_path / "new" / "g.sqlite"
    gallery, other = Gallery(path, SpectralModel()), Gallery(path, SpectralModel())
    with pytest.raises(ValueError, match="silent"):
        gallery.enrol("Ann", np.zeros(32000, np.float32))
    with pytest.raises(GalleryError, match="nobody called"):
        gallery.remove("Ann")
    assert gallery.names() == [] and gallery.counts() == {} and gallery.export()["people"] == {}
    assert gallery.identify(spoken(0, 0), threshold=0.5).verdict == "unknown"
    assert not path.parent.exists()
    gallery.enrol("Ann", spoken(0, 0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert other.names() == ["Ann"] and len(other.enrol("Bob", spoken(2, 0)).added) == 1
    assert Gallery(path).names() == gallery.names() == ["Ann", "Bob"]
    with pytest.raises(GalleryError, match="another model"):
        Gallery(path, SpectralModel("other", bands=30))


@pytest.fixture
def killed(tmp_path):
    """What a process leaves that is killed while it writes the first sample."""
    writing, left = tmp_path / "writing.sqlite", tmp_path / "left.sqlite"
    db = sqlite3.connect(writing, isolation_level=None)
    for command in ("PRAGMA cache_size = 1", "BEGIN IMMEDIATE", *_SCHEMA, f"PRAGMA application_id = {APPLICATION_ID}"):
        db.execute(command)
    for i in range(100):  # more than the cache holds, so that pages are in the file before the end
        db.execute("INSERT INTO people (name) VALUES (?)", (f"{i:05d}" * 500,))
    for ending in ("", "-journal"):
        shutil.copy(f"{writing}{ending}", f"{left}{ending}")
    db.close()
    assert left.stat().st_size > 0
    return left


def test_a_first_enrolment_that_was_killed_is_begun_again(killed):
    gallery = Gallery(killed, SpectralModel())
    assert gallery.names() == []
    assert len(gallery.enrol("Ann", spoken(0, 0)).added) == 1
    assert Gallery(killed).names() == ["Ann"]


def test_what_only_reads_says_that_nobody_has_been_enrolled(killed):
    for _ in range(2):
        with pytest.raises(GalleryError, match="is empty: nobody has been enrolled"):
            Gallery(killed)
