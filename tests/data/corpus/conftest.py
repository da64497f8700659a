import pytest

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.corpus.prepare import prepare_tree
from tests.fixtures.wav_tree import make_tree


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "wav")


@pytest.fixture
def prepare(tmp_path):
    def run(data_folders, **options):
        options = {"output_folder": tmp_path / "out", "progress": False} | options
        return read_manifest(prepare_tree(data_folders, **options))

    return run
