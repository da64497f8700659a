import json
import os

import numpy as np
import pytest
import soundfile

from alpha_sv.data.corpus import audit
from alpha_sv.data.corpus.audit import examine_all
from alpha_sv.data.corpus.audit_journal import examine_files
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.data.corpus.tree import find_files
from tests.fixtures.replaced import counted

RATE = 16000


def write(path, signal):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE)


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for speaker in ("s1", "s2", "s3"):
        for number in range(4):
            write(tmp_path / "wav" / speaker / f"{number}.wav", rng.uniform(-0.5, 0.5, 8000 + 100 * number))
    write(tmp_path / "wav/s1/loud.wav", np.clip(rng.normal(0, 0.5, 8000), -1, 1))
    write(tmp_path / "wav/s2/mute.wav", np.zeros(8000))
    return tmp_path / "wav"


@pytest.fixture
def examine(root, tmp_path):
    def run(sample_rate=RATE, min_duration=0.3, decode=True):
        return examine_files(find_files([root]), tmp_path / "j", sample_rate, min_duration, decode, progress=False)

    return run


def plain(root, decode=True):
    return list(examine_all([file.path for file in find_files([root])], RATE, 0.3, decode, progress=False))


def test_the_journal_gives_what_reading_gives(root, examine):
    first, second = examine(), examine()
    assert first.results == second.results == plain(root)
    assert (first.known, second.known) == (0, 13)  # all but the silent file, which is looked at again
    assert first.speed["read"] == 14 and first.speed["files_per_second"] > 0 and second.speed["read"] == 1


def test_a_file_that_leaves_nothing_to_train_on_is_never_believed_for_good(root, examine):
    # an unreachable disk looks like a damaged file;
    # a journal that kept that would leave it out for ever
    before = examine().results
    assert [p for r in before for p, _ in r.problems if p != "clipped"] == ["silent"]
    (root / "s2/mute.wav").unlink()
    write(root / "s2/mute.wav", np.resize([0.1, -0.1], 8000))
    assert not any(p == "silent" for r in examine().results for p, _ in r.problems)


def test_an_interrupt_costs_the_files_in_flight_only(root, examine, monkeypatch):
    with monkeypatch.context() as patch, counted(audit, "examine", kill_at=7):
        patch.setattr("alpha_sv.data.corpus.threads.available_cores", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            examine()
    resumed = examine()
    assert resumed.known == 6 and resumed.results == plain(root)


def test_a_line_that_a_crash_cut_short_is_dropped_and_not_continued(root, examine, tmp_path, caplog):
    examine()
    whole = (tmp_path / "j").read_bytes()
    for cut in (1, 10, 40):
        (tmp_path / "j").write_bytes(whole[:-cut])
        again = examine()
        assert again.known == 12 and again.results == plain(root)
        assert examine().known == 13  # the file that was read again has a line of its own
        assert "1 damaged lines" in caplog.text


def test_rubbish_in_the_journal_is_told_and_read_again(root, examine, tmp_path, caplog):
    examine()
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    rubbish = [b"\0\0\0", b"5", b"[]", b'["a",1,2,3,[4],null]', b'[["a"],1,2,3,[],null]', b"[" * 10**5]
    rubbish += [lines[0].rstrip().replace(b"16000,1,", b'"x",1,')]
    (tmp_path / "j").write_bytes(b"\n".join([*rubbish, b""]) + b"".join(lines[1:]))
    again = examine()
    assert again.known == 12 and again.results == plain(root) and "7 damaged lines" in caplog.text


@pytest.mark.parametrize("options", [{"sample_rate": 8000}, {"min_duration": 0.1}, {"decode": False}])
def test_another_question_finds_no_line(examine, options):
    examine()
    assert examine(**options).known == 0
    assert examine().known == 13


def test_a_changed_file_is_read_again(root, examine):
    examine()
    os.utime(root / "s1/0.wav", ns=(0, 12345))
    write(root / "s1/1.wav", np.resize([0.1, -0.1], 9000))
    assert examine().known == 11


def test_another_split_of_the_same_corpus_reads_nothing(root, tmp_path):
    options = {"output_folder": tmp_path / "out", "progress": False}
    for seed, read in ((1, 14), (2, 1)):
        prepare_tree(root, **options, seed=seed)
        assert json.loads((tmp_path / "out/prepare.json").read_text())["reading"]["read"] == read
