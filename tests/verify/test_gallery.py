"""A gallery: enrol, identify, remove; what it refuses, and what stays in the file."""

import base64
import json
import os
import sqlite3
import stat
import unicodedata

import numpy as np
import pytest

import alpha_sv
from alpha_sv.cli import main
from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.gallery_file import GalleryError, GalleryFile
from alpha_sv.verify.model import load_model
from tests.fixtures.replaced import counted
from tests.fixtures.voices import SpectralModel, calibrator, save_model, save_recordings, spoken


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return save_recordings(tmp_path_factory.mktemp("people") / "wav", speakers=6, takes=3)


@pytest.fixture
def gallery(tmp_path, files):
    found = alpha_sv.Gallery(tmp_path / "people.sqlite", SpectralModel())
    for name, row in zip(("Ann", "Bob", "Cem"), (files[0], files[2], files[5]), strict=True):
        found.enrol(name, row[:2])
    return found


def everything(path):
    """The raw bytes of a gallery and of its log and index."""
    return b"".join(p.read_bytes() for p in path.parent.iterdir() if p.name.startswith(path.name))


def test_known_unknown_and_too_close(gallery, files):
    for name, speaker in (("Ann", 0), ("Bob", 2), ("Cem", 5)):
        found = gallery.identify(files[speaker][2], threshold=0.95)
        assert (found.name, found.verdict, found.candidates[0].name) == (name, "known", name)
        assert found.candidates[0].score > 0.98 and len(found.candidates) == 3
        assert found.margin is None and "known: 'Ann'" in str(found) or name != "Ann"
    stranger = gallery.identify(files[3][0], threshold=0.95)
    assert (stranger.name, stranger.verdict) == (None, "unknown") and "nobody reaches" in stranger.reason
    gallery.enrol("Twin of Ann", files[0][2])
    twin = gallery.identify([spoken(0, 5), spoken(0, 6)], threshold=0.95)
    assert (twin.name, twin.verdict) == (None, "too close")
    assert "'Ann'" in twin.reason and "'Twin of Ann'" in twin.reason


def test_the_calibrators_point_is_raised_by_ln_n_and_the_margin_is_in_nats(tmp_path, files):
    line = calibrator(weight=20.0, offset=-13.0)
    gallery = Gallery(tmp_path / "g.sqlite", SpectralModel(calibrator=line))
    names = [f"p{i}" for i in range(3)]
    for name, row in zip(names, files, strict=False):
        gallery.enrol(name, row[0])
    for point, nats in (("fpr 1e-2", 2.0), ("fpr 1e-3", 4.0), (None, 2.0)):
        threshold = gallery.threshold(point)
        assert threshold.value == pytest.approx(nats + np.log(3)) and threshold.unit == "nats"
        assert "3 people" in threshold.basis and "trials" in threshold.basis
    threshold = gallery.threshold("p_target 0.0003")  # 9.2 nats, where the bounds are 9
    assert threshold.value is None and "do not support" in threshold.basis
    found = gallery.identify(files[0][1])
    best, second, *_ = found.candidates
    assert found.margin == pytest.approx(20 * (best.score - second.score))
    assert best.llr == pytest.approx(line.llr(best.score))
    # p0 and p1 have a cosine of 0.89, which is 2.2 nats of this line and 8.9 of a steeper one
    assert found.verdict == "too close" and 1 < found.margin < np.log(19)
    steeper = Gallery(gallery.path, SpectralModel(calibrator=calibrator(weight=80.0, offset=-72.0)))
    assert steeper.identify(files[0][1]).name == "p0"


def test_without_a_measured_threshold_nobody_is_known(gallery, files):
    found = gallery.identify(files[0][2])
    assert (found.verdict, found.name, found.threshold) == ("unknown", None, None)
    assert found.candidates[0].name == "Ann" and "no threshold was measured" in found.reason
    assert "more samples" in found.reason
    with pytest.raises(ValueError, match="needs a calibrator"):
        gallery.identify(files[0][2], point="fpr 1e-2")


def test_poor_recordings_are_refused_unless_asked_for(gallery, files):
    short = spoken(0, 9)[8000:10400]
    with pytest.raises(GalleryError, match="nothing was enrolled.*speech"):
        gallery.enrol("Eve", [spoken(3, 1), short])
    assert "Eve" not in gallery.names()
    assert len(gallery.enrol("Eve", short, allow_poor=True).added) == 1
    assert gallery.identify(short, threshold=-1.0).verdict == "unknown"
    assert gallery.identify(short, threshold=0.999, check_quality=False).name == "Eve"


def test_an_enrolment_is_whole_or_absent(gallery, files, tmp_path):
    with pytest.raises(ValueError, match="none.wav"):
        gallery.enrol("Dan", [files[3][0], tmp_path / "none.wav"])
    with pytest.raises(GalleryError, match="already enrolled as 'Ann'"):
        gallery.enrol("Dan", [files[3][0], files[0][0]])
    assert gallery.names() == ["Ann", "Bob", "Cem"]
    with pytest.raises(ValueError, match="at least one"):
        gallery.enrol("Dan", [])


def test_one_file_twice_is_said_and_stored_once(gallery, files):
    again = gallery.enrol("Ann", [files[0][0], files[0][2]])
    assert again.known == (str(files[0][0]),) and again.added == (str(files[0][2]),)
    assert len(gallery.export()["people"]["Ann"]) == 3
    wave = spoken(4, 1)
    assert gallery.enrol("Eve", [wave, wave.copy()]).known == ("input 1",)


@pytest.mark.parametrize("busy", [False, True])
def test_remove_leaves_nothing_in_any_file(tmp_path, files, busy):
    path = tmp_path / "people.sqlite"
    gallery = Gallery(path, SpectralModel())
    name = "Zoë-Marie of the long unmistakable name"
    for i, row in enumerate(files[:3]):
        gallery.enrol(f"other {i}", row[:2])
    gallery.enrol(name, files[5])
    traces = [name.encode(), *(os.fsencode(file.name) for file in files[5])]
    traces += [row["sha256"].encode() for row in gallery.export()["people"][name]]
    traces += [gallery.model.embed(file).astype("<f4").tobytes()[16:64] for file in files[5]]
    assert all(trace in everything(path) for trace in traces)
    reader = sqlite3.connect(path) if busy else None  # another process that is connected, but not in a transaction
    if reader:
        reader.execute("SELECT count(*) FROM samples").fetchall()
    assert gallery.remove(name) == 3
    assert not any(trace in everything(path) for trace in traces)
    assert gallery.names() == ["other 0", "other 1", "other 2"]
    assert gallery.identify(files[0][2], threshold=0.95).name == "other 0"
    with pytest.raises(GalleryError, match="nobody called"):
        gallery.remove(name)


def test_a_removal_that_was_killed_is_finished_by_the_next_process(gallery):
    with counted(GalleryFile, "scrub", kill_at=1), pytest.raises(KeyboardInterrupt):
        gallery.remove("Ann")
    assert gallery.names() == ["Bob", "Cem"]
    (gallery.path.parent / "copy").mkdir()
    Gallery(gallery.path)
    assert b"Ann" not in everything(gallery.path) and b"recording 0_" not in everything(gallery.path)


def test_no_audio_is_stored_and_nobody_else_may_read(gallery, files):
    names = {path.name for path in gallery.path.parent.iterdir()}
    assert names <= {"people.sqlite", "people.sqlite-wal", "people.sqlite-shm"}
    assert len(everything(gallery.path)) < os.path.getsize(files[0][0])
    connection = sqlite3.connect(gallery.path)  # as long as one is open, log and index are there
    connection.execute("SELECT * FROM people").fetchall()
    for path in gallery.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    connection.close()
    gallery.path.chmod(0o644)


def test_a_gallery_that_others_can_read_is_said(gallery, caplog):
    gallery.path.chmod(0o644)
    Gallery(gallery.path)
    assert "chmod 600" in caplog.text


def test_what_is_no_gallery_is_refused_and_left_alone(tmp_path, gallery):
    (tmp_path / "text").write_text("no database " * 1000)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    other.close()
    whole = gallery.path.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "garbage").write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    later = sqlite3.connect(gallery.path)
    later.execute("VACUUM INTO ?", (str(tmp_path / "trigger"),))
    later.execute("VACUUM INTO ?", (str(tmp_path / "later"),))
    later.close()
    with sqlite3.connect(tmp_path / "later") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with sqlite3.connect(tmp_path / "trigger") as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON people BEGIN DELETE FROM samples; END")
    db.close()
    for name, message in (
        ("text", "not a gallery"),
        ("other", "something else"),
        ("cut", "damaged"),
        ("garbage", "damaged"),
        ("later", "format 99"),
        ("trigger", "other tables"),
    ):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(GalleryError, match=message):
            Gallery(tmp_path / name, SpectralModel())
        assert (tmp_path / name).read_bytes() == before, name
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(GalleryError):
            Gallery(missing)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("blob", [b"", b"abc", np.full(40, np.nan, "<f4").tobytes(), bytes(160), bytes(80)])
def test_a_damaged_embedding_is_said(gallery, blob, files):
    with sqlite3.connect(gallery.path) as db:
        db.execute("UPDATE samples SET embedding = ? WHERE id = 2", (blob,))
    db.close()
    with pytest.raises(GalleryError, match="damaged"):
        Gallery(gallery.path, gallery.model).identify(files[0][2], threshold=0.5)


def test_another_model_is_refused_until_the_files_are_embedded_anew(gallery, files, tmp_path):
    other = SpectralModel("other", bands=30)
    with pytest.raises(GalleryError, match="made with another model, 'spectral'.*reembed"):
        Gallery(gallery.path, other)
    assert Gallery(gallery.path).reembed(other) == 6
    with pytest.raises(GalleryError, match="made with another model, 'other'"):
        gallery.identify(files[0][2], threshold=0.9)  # it was open meanwhile
    fresh = Gallery(gallery.path, other)
    assert fresh.identify(files[0][2], threshold=0.95).name == "Ann"
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(fresh.export()["people"]["Ann"][0]["embedding"]), "<f4"),
        other.embed(files[0][0])[0],
    )


def test_embedding_anew_needs_every_file_as_it_was(tmp_path):
    rows = save_recordings(tmp_path / "wav", speakers=2, takes=2)
    gallery = Gallery(tmp_path / "g.sqlite", SpectralModel())
    gallery.enrol("Ann", rows[0])
    gallery.enrol("Bob", rows[1])
    rows[0][0].unlink()
    rows[1][1].write_bytes(rows[1][0].read_bytes())
    before = gallery.export()
    with pytest.raises(GalleryError, match="0_0.wav is gone.*1_1.wav is gone or has changed"):
        gallery.reembed(SpectralModel("other", 30))
    assert gallery.export() == before
    gallery.remove("Ann")
    gallery.remove("Bob")
    gallery.enrol("Eve", spoken(0, 0))
    with pytest.raises(GalleryError, match="did not come from a file"):
        gallery.reembed(SpectralModel("other", 30))


@pytest.mark.parametrize(
    "name", ["", "  ", "a\nb", "a\0b", "\x1b[31mred", "x" * 201, "a\u202eb", "a\u2028b", "\ud800", None, 7]
)
def test_names_that_are_none(gallery, name):
    with pytest.raises(GalleryError, match="name"):
        gallery.enrol(name, spoken(3, 0))
    with pytest.raises(GalleryError, match="name"):
        gallery.remove(name)


@pytest.mark.parametrize(
    "name", ["Zoë", "李小龙", "o'Neil; DROP TABLE people;--", "../../etc", "👩‍🚀", "-rf", "x" * 200, "%s %"]
)
def test_names_of_any_kind_are_kept(gallery, name):
    gallery.enrol(unicodedata.normalize("NFD", name), spoken(3, 0))
    assert unicodedata.normalize("NFC", name) in gallery.names()
    assert gallery.identify(spoken(3, 0), threshold=0.99).name == unicodedata.normalize("NFC", name)
    assert gallery.remove(name) == 1 and len(gallery.names()) == 3


def test_a_full_disk_loses_nothing(gallery, files, monkeypatch):
    connect = sqlite3.connect

    def full(*arguments, **keywords):
        db = connect(*arguments, **keywords)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own error for a full disk
        return db

    before = gallery.export()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        with pytest.raises(GalleryError, match="full"):
            gallery.enrol("Dan", [spoken(3, take, 1.6) for take in range(40)])
    assert gallery.export() == before
    assert gallery.enrol("Dan", files[3]).name == "Dan"


def test_the_command_line(tmp_path, files, capsys):
    model = load_model(save_model(tmp_path / "model"))
    path, use = str(tmp_path / "g.sqlite"), ["--model", str(tmp_path / "model")]
    ann, bob, cem = ([str(file) for file in row] for row in (files[0], files[2], files[5]))
    assert main(["enrol", path, "Ann", ann[0], *use]) == 0
    assert main(["enrol", path, "Bob", *bob[:2]]) == 0  # the gallery knows its model
    assert main(["enrol", path, "Bob", bob[0]]) == 0
    assert "enrolled already" in capsys.readouterr().out
    assert main(["gallery", path, "list"]) == 0
    assert capsys.readouterr().out == "   1 samples  Ann\n   2 samples  Bob\n"
    assert main(["identify", path, ann[0], "--threshold", "0.9999"]) == 0
    assert "known: 'Ann'" in capsys.readouterr().out
    assert main(["identify", path, ann[0], cem[0], "--threshold", "0.9999", "--json"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["name"], second["name"], second["verdict"]) == ("Ann", None, "unknown")
    assert first["candidates"][0]["score"] == pytest.approx(1.0)
    assert main(["gallery", path, "check", "--cohort", *cem]) == 0
    assert "2 people, 3 samples" in capsys.readouterr().out
    assert main(["gallery", path, "export"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == model.name
    assert main(["gallery", path, "remove", "Ann"]) == 0
    assert b"Ann" not in everything(tmp_path / "g.sqlite")
    save_model(tmp_path / "other", embedding_dim=20)
    assert main(["identify", path, ann[0], "--model", str(tmp_path / "other")]) == 2
    assert "reembed" in capsys.readouterr().err
    assert main(["gallery", path, "reembed", "--model", str(tmp_path / "other")]) == 0
    assert main(["identify", path, bob[0], "--threshold", "0.5"]) == 0
    for wrong in (
        ["gallery", path, "remove"],
        ["gallery", path, "list", "Ann"],
        ["identify", str(tmp_path / "no"), ann[0]],
    ):
        assert main(wrong) == 2
    assert not (tmp_path / "no").exists()
