"""What the tests of training share: a tiny tree, and the recipe's folder to run in."""

import pytest

from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import RECIPE


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"), speakers=10, utterances=8)  # 48 utterances to train on


@pytest.fixture
def in_recipe(monkeypatch):
    monkeypatch.chdir(RECIPE)
