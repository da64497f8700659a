import dataclasses
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alpha_sv.data.corpus.manifest import COLUMNS, Utterance, manifest_hash, read_manifest, write_manifest
from tests.batteries import damaged_files


def utterance(utt_id="s1/x/a.wav", speaker="s1", split="train", num_samples=12345, root="/data"):
    return Utterance(utt_id, f"{root}/{utt_id}", speaker, "x", num_samples, 16000, 1, split)


@pytest.fixture
def three():
    return [utterance(), utterance('s2/ü, "b".wav', "s2", "valid"), utterance("s3/c.wav", "s3", "test")]


def test_what_is_written_is_read(tmp_path, three):
    path = tmp_path / "manifest.csv"
    write_manifest(path, three)
    assert read_manifest(path) == three
    assert read_manifest(path, split="valid") == three[1:2]
    assert three[0].duration == 12345 / 16000


def test_speechbrain_reads_the_same_rows(tmp_path, three):
    dataset = pytest.importorskip("speechbrain.dataio.dataset")
    path = tmp_path / "manifest.csv"
    write_manifest(path, three)
    rows = dataset.DynamicItemDataset.from_csv(path, output_keys=["id", "wav", "spk_id", "duration"])
    for row, expected in zip(rows, three, strict=True):
        assert (row["id"], row["wav"], row["spk_id"]) == (expected.utt_id, expected.path, expected.speaker)
        assert row["duration"] == pytest.approx(expected.duration)


def test_a_failed_write_leaves_the_old_manifest(tmp_path, three):
    path = tmp_path / "manifest.csv"
    write_manifest(path, three)
    with pytest.raises(ValueError, match="two utterances have the ID 's1/x/a.wav'"):
        write_manifest(path, [three[0], three[0]])
    assert read_manifest(path) == three and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "line, problem",
    [
        ("s1/x/a.wav,1.0,/d/a.wav,s1,,16000,16000,1,train", "that of line 2"),
        ("b,1.0,/d/b.wav,s1,,16000,16000,1", "8 fields"),
        ("b,1.0,/d/b.wav,s1,,many,16000,1,train", "many"),
        ("b,1.0,/d/b.wav,s1,,16000,16000,1,dev", "split must be one of train, valid, test"),
        ("b,1.0,b.wav,s1,,16000,16000,1,train", "must be absolute"),
        ("b,1.0,/d/b.wav,s1,,16000,0,1,train", "positive"),
        ("b,1.5,/d/b.wav,s1,,16000,16000,1,train", "duration 1.5"),
        ("b,nan,/d/b.wav,s1,,16000,16000,1,train", "duration nan"),
        ("b,1.0,/d/b.wav,,,16000,16000,1,train", "speaker"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, problem):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [utterance()])
    path.write_text(path.read_text() + "\n" + line + "\n")  # a blank line in between is no row, but it counts
    with pytest.raises(ValueError, match=rf"manifest\.csv:4: .*{problem}"):
        read_manifest(path, split="test")


def test_missing_columns_and_unknown_splits(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("ID,wav\na,/d/a.wav\n")
    with pytest.raises(ValueError, match=r"manifest\.csv:1: no column duration, spk_id"):
        read_manifest(path)
    path.write_text("")
    with pytest.raises(ValueError, match="no column ID"):
        read_manifest(path)
    with pytest.raises(ValueError, match="split must be"):
        read_manifest(path, split="dev")


LINE = "s1/b.wav,1.0,/d/b.wav,s1,,16000,16000,1,train"


@pytest.mark.parametrize(
    "content, problem",
    [
        (LINE.replace("b.wav", "b" * 10**6).encode(), "field larger|names of"),
        (LINE.replace("b.wav", "b" * 10**5).encode(), "names of 1"),
        (LINE.replace(",s1,", ',"s1,').encode(), "unexpected end of data"),
        (LINE.replace(",s1,", ',"s1"x,').encode(), "expected after"),
        (LINE.replace("b.wav", "\0.wav").encode(), "NUL"),
        (LINE.replace("b.wav", "\u00e9.wav").encode("latin-1"), "not UTF-8"),
        (LINE.replace("16000,16000", "1_6000,16000").encode(), "'1_6000'.* is no whole number"),
        (LINE.replace(",1,", ",\u0661,").encode(), "is no whole number"),
        (LINE.replace("16000,16000", "1" * 5000 + ",16000").encode(), "is no whole number"),
        (LINE.replace(",1.0,", ",1_0e-1,").encode(), "is no number of seconds"),
        (b"\x89PNG\r\n", "not UTF-8"),
    ],
)
def test_what_is_no_csv_of_ours_is_named_with_its_line(tmp_path, content, problem):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [utterance()])
    path.write_bytes(path.read_bytes() + content + b"\n")
    with pytest.raises(ValueError, match=rf"manifest\.csv:3: .*({problem})"):
        read_manifest(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), place=st.integers(0, 200), written=st.booleans())
def test_any_bytes_are_a_manifest_or_an_error_that_names_it(tmp_path, content, place, written):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [utterance()])
    whole = path.read_bytes() if written else b""
    path.write_bytes(whole[:place] + content + whole[place:])
    try:
        assert all(u.utt_id and u.num_samples > 0 for u in read_manifest(path))
    except ValueError as error:
        assert str(error).startswith(f"{path}:")


@pytest.mark.parametrize("name", ["my file.wav", 'a"b,c.wav', "a\nb.wav", "a\r\nb.wav", "\u2028.wav"])
def test_any_name_of_a_file_survives(tmp_path, name):
    one = utterance(f"s1/{name}")
    write_manifest(tmp_path / "manifest.csv", [one])
    assert read_manifest(tmp_path / "manifest.csv") == [one]


def test_names_of_a_manifest_have_one_unicode_form(tmp_path):
    one, two = (utterance(unicodedata.normalize(form, "s1/Jos\u00e9.wav")) for form in ("NFC", "NFD"))
    write_manifest(tmp_path / "manifest.csv", [two])
    [found] = read_manifest(tmp_path / "manifest.csv")
    assert found.utt_id == one.utt_id and found.path == two.path


def test_columns_may_come_in_any_order_with_others_between(tmp_path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [utterance()])
    row = dict(zip(COLUMNS, path.read_text().splitlines()[1].split(","), strict=True)) | {"language": "de"}
    path.write_text(",".join(reversed(row)) + "\n" + ",".join(reversed(row.values())) + "\n")
    assert read_manifest(path) == [utterance()]


def test_the_hash_knows_what_matters_and_only_that(three):
    value = manifest_hash(three)
    moved = [utterance(u.utt_id, u.speaker, u.split, root="/elsewhere") for u in reversed(three)]
    assert manifest_hash(moved) == value
    for change in ({"speaker": "s9"}, {"num_samples": 5}, {"split": "test"}, {"utt_id": "s1/x/z.wav"}):
        assert manifest_hash([dataclasses.replace(three[0], **change), *three[1:]]) != value
    assert manifest_hash(three[:2]) != value


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_what_is_no_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.csv:[12]: "):
        read_manifest(tmp_path / "manifest.csv")
