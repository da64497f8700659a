"""A YAML from elsewhere must not be able to run code."""

from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from alpha_sv.losses import AAMSoftmax, QMargin
from alpha_sv.sb.recipe_yaml import CONSTRUCTIBLE, check_recipe, compose_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*ROOT.glob("recipes/*/hparams/*.yaml"), ROOT / "alpha_sv" / "demo.yaml"])

HOSTILE = {
    "apply": "x: !apply:os.system [touch {}]",
    "new": "x: !new:subprocess.Popen [[touch, {}]]",
    "name then ref": "x: !name:os.system\ny: !ref <x>",
    "applyref": "x: !applyref:os.system [touch {}]",
    "include": "x: !include:other.yaml",
    "module": "x: !module:os",
    "python tag": "x: !!python/object/apply:os.system [touch {}]",
    "verbatim tag": "x: !<tag:yaml.org,2002:python/object/apply:os.system> [touch {}]",
    "verbatim apply": "x: !<!apply:os.system> [touch {}]",
    "redefined handle": "%TAG ! !apply:os.\n---\nx: !system [touch {}]",
    "redefined to a harmless name": "%TAG !ref !apply:os.\n---\nx: !ref [touch {}]",
    "named handle": "%TAG !a! !apply:os.\n---\nx: !a!system [touch {}]",
    "attribute of an allowed package": "x: !new:alpha_sv.data.files.os.system [touch {}]",
    "percent encoding": "x: !apply:os%2Esystem [touch {}]",
    "deep": "a: {b: [1, {c: !apply:os.system [touch {}]}]}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml_is_refused_before_anything_is_built(text, tmp_path):
    recipe, proof = tmp_path / "evil.yaml", tmp_path / "it_ran"
    recipe.write_text(text.replace("{}", str(proof), 1))
    with pytest.raises(ValueError, match=r"evil.yaml(, line \d+: .*trust_yaml| is not valid YAML)"):
        load_hyperpyyaml(compose_recipe(recipe))
    assert not proof.exists()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_our_recipes_pass(recipe):
    check_recipe(recipe.read_text(), recipe.name)


def test_trusted_recipe_may_build_anything(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("x: !new:collections.Counter\ny: 1")
    assert load_hyperpyyaml(compose_recipe(recipe, "y: 2", trust_yaml=True))["y"] == 2


def test_overriding_the_loss_changes_the_loss(tmp_path):
    """HyperPyYAML alone would merge the arguments and keep the class: a QMargin with scale 30."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("loss: !new:alpha_sv.losses.QMargin\n    alpha: 1.5\n    scale: 10.0\nsizes: {a: 1, b: 2}")
    override = "loss: !new:alpha_sv.losses.AAMSoftmax {scale: 30.0}\nsizes: {b: 3}"
    hparams = load_hyperpyyaml(compose_recipe(recipe, override))
    assert type(hparams["loss"]) is AAMSoftmax and hparams["loss"].scale == 30
    assert hparams["sizes"] == {"a": 1, "b": 3}
    hparams = load_hyperpyyaml(compose_recipe(recipe, "loss: {alpha: 2.0, scale: auto}"))
    assert type(hparams["loss"]) is QMargin and (hparams["loss"].alpha, hparams["loss"].scale) == (2.0, 5.0)


def test_unknown_key_is_refused_with_the_known_ones(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("lr: 1.0")
    with pytest.raises(ValueError, match="no key learning_rate; it has lr"):
        compose_recipe(recipe, "learning_rate: 2.0")


def test_every_listed_name_exists():
    from pydoc import locate

    for package, names in CONSTRUCTIBLE.items():
        for name in names:
            assert locate(f"{package}.{name}") is not None, f"{package}.{name}"


TUPLES = {
    "plain": "note: (!!python/object/apply:os.system [touch {}])",
    "key": "? (!!python/object/apply:os.system [touch {}])\n: 1",
    "tagged": "note: !tuple '(!!python/object/apply:os.system [touch {}])'",
    "quoted": 'note: "(!!python/object/apply:os.system [touch {}])"',
    "folded": "note: >-\n  (!!python/object/apply:os.system [touch {}])",
    "joined": "a: '('\nb: '!'\nx: !ref <a><b><b>python/object/apply:os.system [touch {}])",
    "inside a list": "x: [1, {y: (!!python/object/apply:os.system [touch {}])}]",
}


@pytest.mark.parametrize("text", TUPLES.values(), ids=TUPLES.keys())
def test_tuple_scalars_cannot_smuggle_a_tag(text, tmp_path):
    """HyperPyYAML reads the inside of "(…)" with a loader that obeys Python tags: no tag token is ever seen."""
    recipe, proof = tmp_path / "evil.yaml", tmp_path / "it_ran"
    recipe.write_text(text.replace("{}", str(proof)))
    with pytest.raises(ValueError, match="evil.yaml"):
        load_hyperpyyaml(compose_recipe(recipe))
    assert not proof.exists()


def test_honest_tuples_load(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("x: (1, 2.5)\nnote: it works (really!)")
    assert load_hyperpyyaml(compose_recipe(recipe)) == {"x": (1, 2.5), "note": "it works (really!)"}
