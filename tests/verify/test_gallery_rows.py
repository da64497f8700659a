"""The rows of a gallery are checked where they are read: SQLite keeps any type in any column."""

import re
import sqlite3

import pytest

from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.gallery_file import GalleryError
from tests.fixtures.voices import SpectralModel, save_recordings, spoken


@pytest.fixture
def gallery(tmp_path):
    found = Gallery(tmp_path / "people.sqlite", SpectralModel())
    for name, files in zip(("Ann", "Bob"), save_recordings(tmp_path / "wav", speakers=2, takes=2), strict=True):
        found.enrol(name, files)
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("people SET name = X'41'", "b'A'"),
        ("people SET name = 'red' || char(27)", "x1b.*is no name"),
        ("people SET name = 'a' || char(10) || 'b'", "is no name"),
        ("people SET name = CAST(X'FF' AS TEXT)", "decode"),
        ("samples SET embedding = 'text'", "embedding of sample 2 is 'text'"),
        ("samples SET embedding = zeroblob(8)", "different lengths, not 40 numbers"),
        ("samples SET seconds = 'abc'", "seconds of sample 2 is 'abc'"),
        ("samples SET seconds = -1.5", "seconds of sample 2 is -1.5"),
        ("samples SET quality = '{'", "quality of sample 2 is '{'"),
        ("samples SET quality = '[]'", "quality of sample 2"),
        ("samples SET path = 'a.wav'", "path of sample 2 is 'a.wav'"),
        ("meta SET value = 'abc' WHERE key = 'changes' --", "'changes' in its table meta is 'abc'"),
        ("meta SET value = X'41' WHERE key = 'model' --", "'model' in its table meta is"),
        ("meta SET key = 'gone' WHERE key = 'fingerprint' --", "does not say of which model"),
    ],
)
def test_a_row_that_nobody_wrote_is_said(gallery, change, message):
    with sqlite3.connect(gallery.path) as db:
        db.execute(f"UPDATE {change} WHERE id = 2")
    db.close()
    uses = {
        "identify": lambda: Gallery(gallery.path, gallery.model).identify(spoken(0, 2), threshold=0.5),
        "export": lambda: Gallery(gallery.path).export(),
        "list": lambda: Gallery(gallery.path).counts(),
        "names": lambda: Gallery(gallery.path).names(),
        "reembed": lambda: Gallery(gallery.path).reembed(gallery.model),
    }
    told = {}
    for name, use in uses.items():
        try:
            use()
        except GalleryError as error:
            told[name] = str(error)
    assert "identify" in told and (change[:6] != "people" or len(told) == len(uses))
    for text in told.values():
        assert re.search(f"people.sqlite is damaged: .*{message}", text) and text.isprintable()
