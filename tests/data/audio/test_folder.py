import pytest

from alpha_sv.data.audio.folder import audio_files, walk


@pytest.fixture
def folder(tmp_path):
    for name in ("a/z.wav", "a-b/c.FLAC", "a/b/x.mp3", "a/notes.txt", ".hidden/y.wav", "._z.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_audio_files_are_sorted_as_paths_are(folder):
    expected = [folder / name for name in ("a/b/x.mp3", "a/z.wav", "a-b/c.FLAC")]
    assert audio_files(folder) == [str(path) for path in sorted(expected)] == list(map(str, expected))


def test_a_folder_behind_links_to_links_counts_once_or_is_an_error(folder):
    for level in range(30):  # followed as often as they can be reached, these would be 2^30 folders
        (folder / f"l{level}").mkdir()
    for level in range(29):
        for twice in "xy":
            (folder / f"l{level}" / twice).symlink_to(folder / f"l{level + 1}")
    assert len(audio_files(folder)) == 3
    with pytest.raises(ValueError, match="more than 100 links"):
        list(walk(folder))


def test_a_folder_that_contains_itself_is_an_error_or_counts_once(folder):
    (folder / "a/up").symlink_to(folder)
    assert len(audio_files(folder)) == 3
    with pytest.raises(ValueError, match="contains it"):
        list(walk(folder / "a"))


def test_a_folder_that_vanished_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: No such file"):
        audio_files(tmp_path / "nowhere")
