import importlib.util
import io
import itertools
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from alpha_sv.data.corpus import prepare as trees
from alpha_sv.data.corpus import voxceleb
from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.corpus.voxceleb import TEST_SPEAKERS, TRIAL_LISTS, prepare_voxceleb, published_list
from tests.fixtures.replaced import counted

DEV1 = [f"id1000{i}" for i in range(1, 7)]
TEST1 = ["id10270", "id10289", "id10309"]
DEV2 = [f"id0001{i}" for i in range(2, 8)]
PREPARE = Path(__file__).parents[3] / "recipes/VoxCeleb/prepare.py"


def wav():
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, 6400), 16000, format="WAV")
    return file.getvalue()


WAV = wav()


def make(folder, speakers, extension="wav", content=WAV):
    for speaker, video in itertools.product(speakers, ("5r0dWxy17C8", "_wav-6XyG7c")):
        (folder / speaker / video).mkdir(parents=True)
        for number in (1, 2):
            (folder / speaker / video / f"{number:05d}.{extension}").write_bytes(content)
    return folder


def trial_list(path, *pairs):
    lines = [f"{int(a == b)} {a}/5r0dWxy17C8/00001.wav {b}/_wav-6XyG7c/00002.wav\n" for a, b in pairs]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def vox1(tmp_path):
    make(tmp_path / "vox1/wav", DEV1 + TEST1)
    return tmp_path / "vox1"


@pytest.fixture
def vox2(tmp_path):
    make(tmp_path / "vox2/dev/wav", DEV2)
    return tmp_path / "vox2"


@pytest.fixture
def lists(tmp_path):
    first, second, third = TEST1
    return {
        "O": trial_list(tmp_path / "veri_test2.txt", (first, first), (first, second), (third, second)),
        "E": trial_list(tmp_path / "list_test_all2.txt", ("id10001", "id10001"), (first, "id10002")),
        "H": trial_list(tmp_path / "list_test_hard2.txt", (first, first), (first, "id10004"), (second, "id10005")),
    }


@pytest.fixture
def prepare(tmp_path):
    def run(train, **options):
        options = {"num_valid_speakers": 2, "progress": False, "output_folder": tmp_path / "out"} | options
        return read_manifest(prepare_voxceleb(train=train, **options))

    return run


def speakers(utterances, split):
    return {u.speaker for u in utterances if u.split == split}


def facts(tmp_path):
    return json.loads((tmp_path / "out/prepare.json").read_text())


# The published facts


def test_the_published_lists(tmp_path):
    assert len(TEST_SPEAKERS) == 40 and (TEST_SPEAKERS[0], TEST_SPEAKERS[-1]) == ("id10270", "id10309")
    assert {name: entry.trials for name, entry in TRIAL_LISTS.items()} == {
        "veri_test": 37720,
        "veri_test2": 37611,
        "list_test_all": 581480,
        "list_test_all2": 579818,
        "list_test_hard": 552536,
        "list_test_hard2": 550894,
    }
    for name, entry in TRIAL_LISTS.items():
        assert entry.name.endswith("(cleaned)") == name.endswith("2")
        assert entry.sees_dev == ("-O" not in entry.name)
        assert published_list(tmp_path / f"{name}.txt") is entry
    assert published_list("veri_test3.txt") is None


# Who trains


def test_vox2_trains_and_all_three_lists_test(tmp_path, vox1, vox2, lists, prepare):
    found = prepare("vox2", voxceleb1=vox1, voxceleb2=vox2, trials=list(lists.values()))
    assert speakers(found, "train") | speakers(found, "valid") == set(DEV2) and len(speakers(found, "valid")) == 2
    named = {name for path in lists.values() for name in path.read_text().split() if "/" in name}
    assert {u.utt_id for u in found if u.split == "test"} == named
    assert "id10270/5r0dWxy17C8/00001.wav" in named  # IDs are what the published lists say


def test_vox1_trains_without_its_forty_even_where_no_list_is_given(vox1, vox2, lists, prepare):
    for options in ({}, {"trials": lists["O"]}):
        found = prepare("vox1", voxceleb1=vox1, **options)
        assert speakers(found, "train") | speakers(found, "valid") == set(DEV1)
    both = prepare("vox1+vox2", voxceleb1=vox1, voxceleb2=vox2, trials=lists["O"])
    assert speakers(both, "train") | speakers(both, "valid") == {*DEV1, *DEV2}


@pytest.mark.parametrize("train", ["vox1", "vox1+vox2"])
def test_e_and_h_are_refused_to_a_model_that_trains_on_voxceleb1(vox1, vox2, lists, prepare, train):
    roots = {"voxceleb1": vox1} | ({"voxceleb2": vox2} if train != "vox1" else {})
    with pytest.raises(ValueError, match=r"list_test_all2\.txt tests 2 speakers of VoxCeleb1 dev .*id10001.*on vox2"):
        prepare(train, **roots, trials=[lists["O"], lists["E"]])


def test_speakers_of_the_second_column_count(vox1, lists, prepare):
    # the dev speakers of this list are in its second column only;
    # excluding those of the first trains on them
    with pytest.raises(ValueError, match=r"list_test_hard2\.txt tests 2 speakers of VoxCeleb1 dev"):
        prepare("vox1", voxceleb1=vox1, trials=lists["H"])


def test_dev_speakers_that_were_not_downloaded_are_leakage_too(tmp_path, vox1, prepare):
    absent = trial_list(tmp_path / "list_test_hard.txt", ("id11251", "id11251"), ("id11250", "id10270"))
    with pytest.raises(ValueError, match="tests 2 speakers of VoxCeleb1 dev"):
        prepare("vox1", voxceleb1=vox1, trials=absent)


def test_a_list_of_ones_own_over_training_speakers_is_refused(tmp_path, vox1, vox2, prepare):
    own = trial_list(tmp_path / "own.txt", ("id00012", "id00012"), ("id00012", "id10270"))
    with pytest.raises(ValueError, match=r"own\.txt tests 1 speakers that vox2 trains on \(such as id00012\)"):
        prepare("vox2", voxceleb1=vox1, voxceleb2=vox2, trials=own)


def test_refusals_come_before_any_conversion(tmp_path, vox1, lists, prepare):
    make(tmp_path / "v2/dev/aac", DEV2, "m4a")
    with counted(voxceleb, "convert_tree") as calls, pytest.raises(ValueError, match="VoxCeleb1 dev"):
        prepare("vox1+vox2", voxceleb1=vox1, voxceleb2=tmp_path / "v2", trials=lists["E"])
    assert not calls


def test_switching_from_o_to_h_prepares_again(tmp_path, vox1, vox2, lists, prepare):
    # SpeechBrain's skip test ignores the trial list and goes on with the old CSVs
    roots = {"voxceleb1": vox1, "voxceleb2": vox2}
    assert speakers(prepare("vox2", **roots, trials=lists["O"]), "test") == set(TEST1)
    assert "id10004" in speakers(prepare("vox2", **roots, trials=lists["H"]), "test")


def test_another_training_set_prepares_again_and_the_same_one_does_not(vox1, vox2, prepare):
    first = prepare("vox2", voxceleb1=vox1, voxceleb2=vox2)
    assert speakers(prepare("vox1+vox2", voxceleb1=vox1, voxceleb2=vox2), "train") & set(DEV1)
    assert prepare("vox2", voxceleb1=vox1, voxceleb2=vox2) == first
    with counted(trees, "examine_files") as calls:
        assert prepare("vox2", voxceleb1=vox1, voxceleb2=vox2) == first
    assert not calls


@pytest.mark.parametrize(
    ("train", "given", "error"),
    [
        ("vox3", "", "train must be one of vox1, vox2, vox1.vox2"),
        ("vox1", "", "voxceleb1 is not given: vox1 trains on"),
        ("vox2", "1", "voxceleb2 is not given"),
        ("vox2", "2O", "voxceleb1 is not given: the trials test"),
        ("vox1", "12", "voxceleb2 is given, but vox1 does not train on it"),
    ],
)
def test_roots_that_lack_or_are_not_used(vox1, vox2, lists, prepare, train, given, error):
    options = {"voxceleb1": vox1 if "1" in given else None, "voxceleb2": vox2 if "2" in given else None}
    with pytest.raises(ValueError, match=error):
        prepare(train, **options, trials=[lists["O"]] if "O" in given else [])


def test_an_incomplete_list_or_corpus_is_told_and_recorded(tmp_path, vox1, lists, prepare, caplog):
    own = trial_list(tmp_path / "own.txt", ("id10289", "id10289"))
    prepare("vox1", voxceleb1=vox1, trials=[lists["O"], own])
    assert "veri_test2.txt: 3 trials, VoxCeleb1-O (cleaned) has 37611" in caplog.text
    assert "VoxCeleb1: 9 of its 1251 speakers are there" in caplog.text
    assert facts(tmp_path)["arguments"]["notes"] == {
        "train": "vox1",
        "speakers": {"VoxCeleb1": 9},
        "trial_lists": [
            {"file": "veri_test2.txt", "trials": 3, "name": "VoxCeleb1-O (cleaned)", "published": 37611},
            {"file": "own.txt", "trials": 1, "name": None, "published": None},
        ],
    }
    with pytest.raises(ValueError, match="absent.txt: no such trial list; the published ones are at https"):
        prepare("vox1", voxceleb1=vox1, trials=tmp_path / "absent.txt")


def test_a_whole_published_list_is_not_warned_of(tmp_path, vox1, prepare, caplog):
    count = TRIAL_LISTS["veri_test"].trials
    trial_list(tmp_path / "veri_test.txt", *[("id10270", "id10270")] * count)
    prepare("vox1", voxceleb1=vox1, trials=tmp_path / "veri_test.txt")
    assert "incomplete download" not in caplog.text


# Where it lies


@pytest.mark.parametrize(
    "shape",
    ["wav/{}", "{}", "{half}/wav/{}", "vox1_{half}_wav/wav/{}", "vox1_{half}_wav/{}", "wav/wav/{}", "test/{half}/{}"],
)
def test_voxceleb1_in_every_shape_gives_the_same_rows(tmp_path, vox1, lists, prepare, shape):
    expected = {(u.utt_id, u.speaker, u.session, u.split) for u in prepare("vox1", voxceleb1=vox1, trials=lists["O"])}
    for speaker in DEV1 + TEST1:
        target = tmp_path / "other" / shape.format(speaker, half="test" if speaker in TEST1 else "dev")
        shutil.copytree(vox1 / "wav" / speaker, target)
    found = prepare("vox1", voxceleb1=tmp_path / "other", trials=lists["O"])
    assert {(u.utt_id, u.speaker, u.session, u.split) for u in found} == expected
    assert all(u.utt_id == f"{u.speaker}/{u.session}/{Path(u.path).name}" for u in found)


def test_a_link_to_the_corpus_will_do(tmp_path, vox1, prepare):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dev").symlink_to(vox1 / "wav")
    assert speakers(prepare("vox1", voxceleb1=tmp_path / "data"), "train") < set(DEV1)


def test_the_test_half_of_voxceleb2_does_not_slip_in(tmp_path, vox2, prepare):
    make(vox2 / "test/wav", ["id00061", "id00081"])
    assert {u.speaker for u in prepare("vox2", voxceleb2=vox2)} == set(DEV2)
    for root in (vox2 / "test", vox2 / "test/wav"):
        with pytest.raises(ValueError, match="the test half of VoxCeleb2.*dev half"):
            prepare("vox2", voxceleb2=root)


def test_more_speakers_than_the_corpus_has_are_a_mixture(tmp_path, prepare):
    for number in range(5995):
        (tmp_path / f"v2/id{number:05d}").mkdir(parents=True)
    with pytest.raises(ValueError, match="5995 speakers where VoxCeleb2 has 5994 in dev: its test half seems"):
        prepare("vox2", voxceleb2=tmp_path / "v2")


def test_the_other_corpus_is_refused_by_name(tmp_path, vox1, vox2, prepare):
    with pytest.raises(ValueError, match="vox2: given as VoxCeleb1, but 6 of its 6 speakers .*such as id00012"):
        prepare("vox1", voxceleb1=vox2)
    with pytest.raises(ValueError, match="given as VoxCeleb2, but 9 of its 15 speakers .*such as id10001"):
        prepare("vox2", voxceleb2=tmp_path)  # the folder of both
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        prepare("vox1", voxceleb1=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no folder of VoxCeleb1 speakers"):
        prepare("vox1", voxceleb1=vox1 / "wav/id10001/5r0dWxy17C8")


def test_two_corpora_do_not_overwrite_each_other(vox1, vox2, prepare):
    # SpeechBrain prepares one folder after the other into the same CSVs
    found = prepare("vox1+vox2", voxceleb1=vox1, voxceleb2=vox2, num_valid_speakers=0)
    assert Counter(u.speaker for u in found) == dict.fromkeys(DEV1 + DEV2, 4)


# VoxCeleb2's m4a


@pytest.fixture
def fake_ffmpeg(monkeypatch):
    """What is copied instead of converted; returns the list of sources."""
    sources = []

    def convert(source, output, audio_format):
        sources.append(str(source))
        shutil.copy(source, output)
        os.utime(output, ns=(os.stat(source).st_mtime_ns,) * 2)

    monkeypatch.setattr("alpha_sv.data.corpus.convert.convert_file", convert)
    monkeypatch.setattr("alpha_sv.data.corpus.convert.shutil.which", lambda _: "/bin/ffmpeg")
    return sources


def test_m4a_is_converted_beside_aac_once(tmp_path, prepare, fake_ffmpeg):
    make(tmp_path / "v2/dev/aac", DEV2, "m4a")
    make(tmp_path / "v2/test/aac", ["id00061", "id00081"], "m4a")
    found = prepare("vox2", voxceleb2=tmp_path / "v2")
    assert len(fake_ffmpeg) == 24 and not any("/test/" in source for source in fake_ffmpeg)
    assert {u.path for u in found} == {str(tmp_path / "v2/dev/wav" / u.utt_id) for u in found}
    assert "id00012/5r0dWxy17C8/00001.wav" in {u.utt_id for u in found}
    assert prepare("vox2", voxceleb2=tmp_path / "v2") == found and len(fake_ffmpeg) == 24


@pytest.mark.parametrize("root", ["v2", "v2/dev", "v2/dev/aac"])
def test_converted_files_may_lie_elsewhere(tmp_path, prepare, fake_ffmpeg, root):
    make(tmp_path / "v2/dev/aac", DEV2, "m4a")
    found = prepare("vox2", voxceleb2=tmp_path / root, converted=tmp_path / "fast/wav")
    assert {u.path for u in found} == {str(tmp_path / "fast/wav" / u.utt_id) for u in found}
    assert [path.name for path in (tmp_path / "v2/dev").iterdir()] == ["aac"]


def test_m4a_without_a_folder_aac_is_converted_beside_its_folder(tmp_path, prepare, fake_ffmpeg):
    make(tmp_path / "v2", DEV2, "m4a")
    found = prepare("vox2", voxceleb2=tmp_path / "v2")
    assert found[0].path == str(tmp_path / "v2_wav" / found[0].utt_id)


def test_a_conversion_in_place_is_used_if_it_is_complete(tmp_path, prepare):
    folder = make(tmp_path / "v2/dev/aac", DEV2)
    for path in list(folder.rglob("*.wav")):
        shutil.copy(path, path.with_suffix(".m4a"))
    with counted(voxceleb, "convert_tree") as calls:
        assert len(prepare("vox2", voxceleb2=tmp_path / "v2")) == 24
    assert not calls
    (folder / "id00013/5r0dWxy17C8/00002.wav").unlink()
    with pytest.raises(ValueError, match=r"1 of its 24 m4a files have no wav .*id00013/5r0dWxy17C8/00002\.m4a"):
        prepare("vox2", voxceleb2=tmp_path / "v2")


def test_two_copies_of_voxceleb2_are_refused(tmp_path, prepare, fake_ffmpeg):
    make(tmp_path / "v2/dev/aac", DEV2, "m4a")
    mine = make(tmp_path / "v2/mine", DEV2)
    with pytest.raises(ValueError, match="as m4a .*/dev/aac.* and in .*/mine; give that folder"):
        prepare("vox2", voxceleb2=tmp_path / "v2")
    prepare("vox2", voxceleb2=mine)
    assert not fake_ffmpeg
    prepare("vox2", voxceleb2=tmp_path / "v2", converted=tmp_path / "v2/dev/again")
    assert len(fake_ffmpeg) == 24
    shutil.rmtree(mine)
    make(mine, DEV2, "m4a")
    with pytest.raises(ValueError, match="several folders hold m4a"):
        prepare("vox2", voxceleb2=tmp_path / "v2")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (apt install ffmpeg)")
@pytest.mark.slow
def test_real_m4a_from_the_command_line_and_others_reproduce_the_split(tmp_path, vox1, lists, capsys):
    (tmp_path / "a.wav").write_bytes(WAV)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "aac", tmp_path / "a.m4a"], check=True)
    make(tmp_path / "v2/dev/aac", DEV2, "m4a", (tmp_path / "a.m4a").read_bytes())
    main = script().main
    options = ["--voxceleb1", str(vox1), "--trials", *map(str, lists.values()), "--num-valid-speakers", "2"]
    main(["--voxceleb2", str(tmp_path / "v2"), *options, "--output", str(tmp_path / "out")])
    assert capsys.readouterr().out == f"{tmp_path / 'out/manifest.csv'}\n"
    assert len(read_manifest(tmp_path / "out/manifest.csv", "train")) == 16

    flac = ["--audio-format", "flac", "--converted", str(tmp_path / "flac"), "--output", str(tmp_path / "other")]
    main(["--voxceleb2", str(tmp_path / "v2"), *options, *flac])
    lengths = [
        {u.utt_id.split(".")[0]: u.num_samples for u in read_manifest(tmp_path / name / "manifest.csv")}
        for name in ("out", "other")
    ]
    assert lengths[0] == lengths[1]

    shutil.copytree(tmp_path / "v2/dev/wav", tmp_path / "elsewhere")
    like = ["--like", str(tmp_path / "out/split.txt.gz"), "--output", str(tmp_path / "like")]
    main(["--voxceleb2", str(tmp_path / "elsewhere"), *options, *like])
    for name in ("split.txt.gz", "valid_trials.txt"):
        assert (tmp_path / "like" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


# The script


def script():
    spec = importlib.util.spec_from_file_location("voxceleb_prepare", PREPARE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_ends_with_the_error_and_its_help_teaches(tmp_path, vox1, lists, capsys):
    with pytest.raises(SystemExit, match=r"prepare\.py: list_test_all2\.txt tests 2 speakers"):
        options = ["--voxceleb1", str(vox1), "--train", "vox1", "--output", str(tmp_path / "out")]
        script().main([*options, "--trials", str(lists["E"])])
    with pytest.raises(SystemExit):
        script().main(["--help"])
    text = capsys.readouterr().out
    for word in ("--voxceleb1", "veri_test2.txt", "may be tested on O only", "ffmpeg", "--like"):
        assert word in text
