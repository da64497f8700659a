"""VoxCeleb's verify.py on a small tree with VoxCeleb's names: scores, refusals, resume, table."""

import itertools
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from alpha_sv.data.corpus.manifest import Utterance, read_manifest, write_manifest
from alpha_sv.data.corpus.voxceleb import TrialList
from alpha_sv.data.trials.files import read_scores, write_trials
from alpha_sv.data.trials.tables import Trials
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.store import EmbeddingStore
from alpha_sv.metrics import eer
from alpha_sv.pipeline.provenance import read_sources, scores_kind
from alpha_sv.report import load_metrics
from alpha_sv.scoring import Calibrator, cohort_cache
from tests.fixtures.replaced import command_line, counted
from tests.fixtures.speech_tree import RATE, voice

RECIPE = Path(__file__).parents[2] / "recipes" / "VoxCeleb"
TRAIN, VALID = [f"id0{n:04d}" for n in (12, 15, 16, 18, 19)], [f"id0{n:04d}" for n in range(20, 32)]
TEST, DEV = ["id10270", "id10271", "id10272"], ["id10001", "id10002"]  # VoxCeleb1-O and VoxCeleb1 dev
LISTS = ("veri_test2.txt", "list_test_all2.txt", "list_test_hard2.txt")
RECIPE_TEXT = """\
loss: !new:alpha_sv.losses.{loss} {{alpha: 1.5, scale: 10.0}}
margin_schedule: !new:alpha_sv.schedule.MarginSchedule {{initial_margin: 0.0, final_margin: {margin}}}
embedder: !new:alpha_sv.embedding.embedder.SpeakerEmbedder {{architecture: ecapa_tdnn, embedding_dim: 16}}
warm_start: {start}
"""


@pytest.fixture
def verify(monkeypatch):
    """The script, whose folder is no package."""
    monkeypatch.syspath_prepend(str(RECIPE))
    names = ("trial_lists", "verify")
    yield [__import__(name) for name in names][1]
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """prepared/ with a manifest, the three lists and valid_trials.txt;
    run/ with an untrained embedder."""
    folder = tmp_path_factory.mktemp("voxceleb")
    rows = []
    for number, speaker in enumerate([*TRAIN, *VALID, *TEST, *DEV]):
        split = "train" if speaker in TRAIN else "valid" if speaker in VALID else "test"
        for take in range(4 if split == "train" else 3):
            name = f"{speaker}/video{take % 2}/{take:05d}.wav"
            path = folder / "wav" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = voice(number, take, (0.5, 0.8)[take % 2])
            soundfile.write(path, wave, RATE)
            rows.append(Utterance(name, str(path), speaker, f"video{take % 2}", len(wave), RATE, 1, split))
    write_manifest(folder / "prepared" / "manifest.csv", rows)
    for file, speakers in zip(LISTS, (TEST, TEST + DEV, DEV), strict=True):
        _write_list(folder / file, [row.utt_id for row in rows if row.speaker in speakers])
    _write_list(folder / "prepared" / "valid_trials.txt", [row.utt_id for row in rows if row.split == "valid"])
    torch.manual_seed(0)
    embedder = SpeakerEmbedder("ecapa_tdnn", 16, n_mels=24, channels=[8, 8, 8, 8, 24], attention_channels=8)
    _make_run(folder / "run", embedder, TRAIN)
    return folder


def _write_list(path, names):
    pairs = list(itertools.combinations(names, 2))
    write_trials(path, Trials(*zip(*pairs, strict=True), [a[:7] == b[:7] for a, b in pairs]))


def _make_run(folder, embedder, speakers, loss="QMargin", margin=0.2, start=""):
    embedder.save(folder / "model")
    (folder / "hyperparams.yaml").write_text(RECIPE_TEXT.format(loss=loss, margin=margin, start=start))
    classes = [*speakers, *(f"{speaker}#{speed}" for speed in (0.9, 1.1) for speaker in speakers)]
    (folder / "labels.json").write_text(json.dumps({name: row for row, name in enumerate(classes)}))


@pytest.fixture
def command(made, tmp_path):
    """Arguments of a verification on the given lists into tmp_path."""

    def arguments(*lists, run=made / "run", output=tmp_path / "out", extra=()):
        prepared = ["--prepared", str(made / "prepared")]
        trials = ["--trials", *(str(made / name) for name in lists or LISTS)]
        return [str(run), *prepared, *trials, "--top-n", "3", "--output", str(output), *map(str, extra)]

    return arguments


@pytest.fixture
def forwards(monkeypatch):
    """The batches that embedders saw."""
    seen, forward = [], SpeakerEmbedder.forward
    monkeypatch.setattr(
        SpeakerEmbedder, "forward", lambda self, waveforms: seen.append(len(waveforms)) or forward(self, waveforms)
    )
    return seen


def test_three_lists_score_as_the_definition_of_as_norm_says(verify, made, command, tmp_path, capsys):
    table = verify.main(command())
    utterances = read_manifest(made / "prepared" / "manifest.csv")
    of = {}
    for name in ("embeddings", "embeddings_cohort_all"):
        store = EmbeddingStore.open(tmp_path / "out" / name)
        of |= {
            utt_id: row / np.linalg.norm(row) for utt_id, row in zip(store.ids, np.float64(store.matrix), strict=True)
        }
    assert of.keys() == {u.utt_id for u in utterances}
    cohort = []
    for speaker in TRAIN:
        mean = np.mean([of[u.utt_id] for u in utterances if u.speaker == speaker], axis=0)
        cohort.append(mean / np.linalg.norm(mean))

    def standard(score, name):
        top = np.sort([of[name] @ other for other in cohort])[-3:]
        return (score - top.mean()) / top.std()

    for name in LISTS:
        stem = name.removesuffix(".txt")
        raw, normed = (read_scores(tmp_path / "out" / f"{stem}_{kind}.txt") for kind in ("cosine", "as-norm"))
        cosines = [of[a] @ of[b] for a, b in zip(raw.enroll, raw.test, strict=True)]
        np.testing.assert_allclose(raw.scores, cosines, atol=1e-12)
        sides = zip(cosines, raw.enroll, raw.test, strict=True)
        expected = [(standard(score, a) + standard(score, b)) / 2 for score, a, b in sides]
        np.testing.assert_allclose(normed.scores, expected, rtol=1e-7)
        metrics = load_metrics(tmp_path / "out" / f"{stem}_metrics.json")
        value = eer(normed.target_scores, normed.nontarget_scores)[0]
        assert metrics["systems"][0]["eer"]["value"] == value
        assert f"{100 * value:.3f}" in table.read_text(encoding="utf-8").splitlines()[3]
        assert (tmp_path / "out" / f"{stem}_report.html").is_file()
        sources = [read_sources(tmp_path / "out" / f"{stem}_{kind}.txt")[0] for kind in ("cosine", "as-norm")]
        assert [sorted(found) for found in sources] == [["model", "trials"], ["cohort", "model", "trials"]]
        assert sources[0]["trials"]["file"] == name
    assert table.read_text(encoding="utf-8") in capsys.readouterr().out


def test_row_says_what_was_used(verify, made, command):
    table = verify.main(command("veri_test2.txt")).read_text(encoding="utf-8")
    header, _, raw, normed = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[:4])
    parameters = sum(p.numel() for p in SpeakerEmbedder.load(made / "run" / "model").parameters())
    facts = ["ecapa_tdnn c8, 16-d", f"{parameters / 1e6:.2f} M", "QMargin (α=1.5, s=10, m=0.2)", "no"]
    assert header[:6] == ["model", "params", "loss", "LM", "AS-norm", "QMF"]
    assert raw[:6] == [*facts, "no", "no"]
    assert normed[:6] == [*facts, "top 3 of 5 speaker means (all utterances each)", "no"]
    assert len(header) == len(raw) == len(normed) == 8
    assert "FNR % @ FPR 1e-3" in table


def test_only_a_list_of_the_published_length_has_the_published_name(verify, command, monkeypatch):
    assert "VoxCeleb1-O" not in (table := verify.main(command("veri_test2.txt")).read_text(encoding="utf-8"))
    assert "veri_test2 (36 trials) EER %" in table
    whole = TrialList("VoxCeleb1-O (cleaned)", 36, False)
    monkeypatch.setattr(sys.modules["trial_lists"], "published_list", lambda path: whole)
    table = verify.main(command("veri_test2.txt")).read_text(encoding="utf-8")
    assert "| VoxCeleb1-O (cleaned) EER % | VoxCeleb1-O (cleaned) minDCF(0.01) |" in table
    assert "36 trials" not in table.splitlines()[0]


def test_model_that_heard_a_speaker_of_a_list_is_refused_before_anything_is_done(verify, made, command, tmp_path):
    embedder = SpeakerEmbedder.load(made / "run" / "model")
    _make_run(tmp_path / "vox12", embedder, TRAIN + DEV)
    with pytest.raises(ValueError) as refused:
        verify.main(command(run=tmp_path / "vox12"))
    message = str(refused.value)
    assert "list_test_all2.txt: 2 of its 5 speakers (id10001, id10002)" in message
    assert "list_test_hard2.txt: 2 of its 2 speakers" in message and "never saw VoxCeleb1 dev" in message
    assert "veri_test2.txt" not in message
    assert not (tmp_path / "out").exists()
    assert verify.main(command("veri_test2.txt", run=tmp_path / "vox12")).is_file(), "O is of other speakers"


def test_speakers_of_the_run_a_model_started_from_count_as_heard(verify, made, command, tmp_path):
    embedder = SpeakerEmbedder.load(made / "run" / "model")
    _make_run(tmp_path / "first", embedder, TRAIN + TEST[:1])
    _make_run(tmp_path / "second", embedder, TRAIN, start=tmp_path / "first")
    _make_run(tmp_path / "third", embedder, TRAIN, start=tmp_path / "second")
    with pytest.raises(ValueError, match=r"veri_test2\.txt: 1 of its 3 speakers \(id10270\)"):
        verify.main(command("veri_test2.txt", run=tmp_path / "third"))


def test_second_run_computes_nothing_and_writes_the_same(verify, command, tmp_path, forwards, monkeypatch):
    verify.main(command())
    assert sum(forwards) == 4 * len(TRAIN) + 3 * len(VALID + TEST + DEV), "every utterance once, whatever the lists"
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    forwards.clear()
    with counted(cohort_cache, "cohort_statistics") as met_again:
        verify.main(command())
    assert not forwards and not met_again
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_interrupted_extraction_of_the_cohort_continues(verify, command, tmp_path, forwards, monkeypatch):
    every = 4 * len(TRAIN) + 3 * len(VALID + TEST + DEV)
    forward = SpeakerEmbedder.forward

    def killed(self, waveforms):
        if sum(forwards) >= every - 6:
            raise KeyboardInterrupt
        return forward(self, waveforms)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SpeakerEmbedder, "forward", killed)
        verify.main(command(extra=["--batch-size", 1]))
    done = sum(forwards)
    verify.main(command(extra=["--batch-size", 1]))
    assert done == every - 6 and sum(forwards) == every, "nothing is embedded twice"


@pytest.mark.slow
def test_scores_do_not_depend_on_the_other_lists(verify, command, tmp_path, forwards, monkeypatch):
    verify.main(command())
    forwards.clear()
    verify.main(command("list_test_hard2.txt", output=tmp_path / "alone"))
    first, alone = ((tmp_path / name / "list_test_hard2_as-norm.txt").read_text() for name in ("out", "alone"))
    assert first == alone
    forwards.clear()
    with counted(cohort_cache, "cohort_statistics") as met_again:
        verify.main(command("veri_test2.txt", output=tmp_path / "alone"))
    assert not forwards and not met_again, "another list needs no other embeddings"


def test_cohort_is_of_the_speakers_that_trained_the_model(verify, made, command, tmp_path):
    _make_run(tmp_path / "some", SpeakerEmbedder.load(made / "run" / "model"), TRAIN[:3])
    table = verify.main(command("veri_test2.txt", run=tmp_path / "some"))
    assert "top 3 of 3 speaker means" in table.read_text(encoding="utf-8")
    _make_run(tmp_path / "none", SpeakerEmbedder.load(made / "run" / "model"), ["id09999"])
    with pytest.raises(ValueError, match="none of the 1 speakers is a training speaker"):
        verify.main(command("veri_test2.txt", run=tmp_path / "none"))


def test_top_n_larger_than_the_cohort_is_an_error(verify, command):
    with pytest.raises(ValueError, match=r"top_n = 6 but the cohort has 5 rows"):
        verify.main(command("veri_test2.txt", extra=["--top-n", 6]))


@pytest.mark.slow
def test_capped_cohort_is_named_in_the_row_and_kept_beside_the_whole_one(verify, command, tmp_path, forwards):
    verify.main(command("veri_test2.txt"))
    forwards.clear()
    table = verify.main(command("veri_test2.txt", extra=["--cohort-utterances-per-speaker", 2]))
    assert sum(forwards) == 2 * len(TRAIN) and "(2 utterances each)" in table.read_text(encoding="utf-8")
    forwards.clear()
    verify.main(command("veri_test2.txt"))
    assert not forwards


def test_quality_measures_add_a_row_of_calibrated_scores(verify, made, command, tmp_path):
    valid = made / "prepared" / "valid_trials.txt"
    table = verify.main(command("veri_test2.txt", extra=["--calibration-trials", valid])).read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:5]]
    assert [row[6] for row in rows] == ["no", "no", "yes"]
    qualities = json.loads((tmp_path / "out" / "calibrator.json").read_text())["qualities"]
    assert {quality["name"].rpartition("_")[0] for quality in qualities} == {
        "log_duration",
        "cohort_mean",
        "cohort_std",
    }
    assert "calibrator" in read_sources(tmp_path / "out" / "veri_test2_qmf.txt")[0]
    top = re.search(r"top (\d+) of", table)[0].removesuffix(" of")
    assert Calibrator.load(tmp_path / "out" / "calibrator.json").kind == f"as-norm {top}"
    kinds = {name: scores_kind(tmp_path / "out" / f"veri_test2_{name}.txt") for name in ("cosine", "as-norm", "qmf")}
    assert kinds == {"cosine": "cosine", "as-norm": f"as-norm {top}", "qmf": "llr"}
    assert load_metrics(tmp_path / "out" / "veri_test2_metrics.json")["systems"][2]["cllr"] is not None


def test_calibration_on_tested_speakers_is_refused(verify, made, command):
    with pytest.raises(ValueError, match=r"list_test_all2.txt has 3 speakers of veri_test2.txt"):
        verify.main(command("veri_test2.txt", extra=["--calibration-trials", made / "list_test_all2.txt"]))


def test_list_that_was_not_prepared_is_named_with_the_remedy(verify, made, command, tmp_path):
    _write_list(tmp_path / "other.txt", ["id10290/x/00001.wav", "id10290/x/00002.wav", "id10270/video0/00000.wav"])
    with pytest.raises(ValueError, match=r"2 of its 3 utterances are no test utterances .*id10290/x.*prepare.py with"):
        verify.main(command("veri_test2.txt", tmp_path / "other.txt"))


def test_list_without_labels_is_refused(verify, command, tmp_path):
    (tmp_path / "bare.txt").write_text("id10270/video0/00000.wav id10270/video1/00001.wav\n")
    with pytest.raises(ValueError, match="bare.txt has no labels"):
        verify.main(command(tmp_path / "bare.txt"))


def test_errors_of_use_are_one_line(made, command, monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    words = command(run=made / "absent")
    with (
        command_line("verify.py", *words),
        pytest.raises(SystemExit, match=r"\Averify.py: error: .*absent is not the folder of a training run: .*\Z"),
    ):
        runpy.run_path(str(RECIPE / "verify.py"), run_name="__main__")
    sys.modules.pop("trial_lists", None)
