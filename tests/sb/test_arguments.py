"""What is typed on the command line of a recipe is what is meant:
names stay names, slips are named."""

import pytest

from alpha_sv.sb.arguments import read_command
from alpha_sv.sb.recipe_list import FOLDER, copy_recipes, find_recipe, recipes
from alpha_sv.sb.recipe_yaml import load_recipe

RECIPE = """
data_folder: x
exclude_speakers:
output_folder: y
warm_start:
noise_folder:
trials:
seed: 1
margin: 0.1
"""


@pytest.fixture
def keys(tmp_path):
    """The keys of a recipe as they are after a command line."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)

    def typed(*words):
        return load_recipe(path, read_command([str(path), *words]).yaml())[0]

    return typed


@pytest.mark.parametrize(
    "name", ["0012", "12e4", "2024", "1_000", "0x10", "yes", "null", "~x", "2024-01-01", "1:30", "a=b"]
)
@pytest.mark.parametrize("key", ["exclude_speakers", "data_folder", "output_folder", "warm_start", "noise_folder"])
def test_a_name_that_looks_like_something_else_stays_as_typed(keys, key, name):
    assert keys(f"--{key}={name}")[key] == name
    assert keys(f"--{key}", name)[key] == name


def test_a_list_of_names_stays_as_typed_and_the_home_folder_is_known(keys, monkeypatch):
    monkeypatch.setenv("HOME", "/users/ann")
    assert keys("--exclude_speakers=[0012, 0013, '0x1']")["exclude_speakers"] == ["0012", "0013", "0x1"]
    assert keys("--output_folder=~/x")["output_folder"] == "/users/ann/x"
    assert keys("--trials=[~/a.txt, b.txt]")["trials"] == ["/users/ann/a.txt", "b.txt"]
    assert keys("--exclude_speakers=")["exclude_speakers"] is None
    assert keys("--seed=7")["seed"] == 7 and keys("--margin", "0.3")["margin"] == 0.3


def test_names_in_a_recipe_stay_as_written_too(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "exclude_speakers: [0012, 12e4]\ndata_folder: 2024\nother: 0012\nwarm_start: !ref <data_folder>/x\n"
    )
    found = load_recipe(path)[0]
    assert found["exclude_speakers"] == ["0012", "12e4"]
    assert found["data_folder"] == "2024" and found["warm_start"] == "2024/x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed=1", "--seed=2"], "--seed is given twice"),
        (["--seed", "1", "--seed=2"], "--seed is given twice"),
        (["--seed"], "--seed has no value"),
        (["--seed", "--margin=1"], "--seed has no value"),
        (["seed=1"], "'seed=1' belongs to no option"),
        (["--precision=fp8"], "fp8"),
        (["--trials=[a"], "not a list"),
        (["--sed=1"], r"no key sed \(did you mean seed\?\)"),
        (["--num_epochs=1"], "no key num_epochs"),
    ],
)
def test_a_slip_is_named(keys, words, said):
    with pytest.raises(ValueError, match=said):
        keys(*words)


def test_a_recipe_goes_by_its_name_and_a_typing_error_by_the_nearest():
    assert find_recipe("ecapa") == FOLDER / "SpeakerTree" / "hparams" / "ecapa.yaml"
    with pytest.raises(ValueError, match="near: .*ecapa"):
        find_recipe("ecappa")
    names = [recipe.name for recipe in recipes()]
    assert len(set(names)) == len(names) and "speaker_tree" not in names
    for recipe in recipes():
        whole = (
            recipe.about.count("(") == recipe.about.count(")") and recipe.about[-1] in ".)" and "\n" not in recipe.about
        )
        assert whole, f"{recipe.name}: {recipe.about}: no whole sentence for `alpha-sv recipes`"


def test_recipes_are_copied_whole_and_never_over_others(tmp_path):
    copy = copy_recipes("SpeakerTree", tmp_path)
    assert (copy / "train.py").is_file() and load_recipe(copy / "hparams" / "ecapa.yaml", "data_folder: x")[0]["loss"]
    with pytest.raises(ValueError, match="is there already"):
        copy_recipes("SpeakerTree", tmp_path)
    with pytest.raises(ValueError, match="there are .*SpeakerTree"):
        copy_recipes("speakertree", tmp_path)
