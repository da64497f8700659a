"""The recipes that come with the package:
`alpha-sv recipes` lists them, `alpha-sv train ecapa` runs one by its name.

They lie in `alpha_sv/recipes`, which in a source tree is a link to `recipes/` at the top.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from alpha_sv.files import whole_folder

FOLDER = Path(__file__).parents[1] / "recipes"


class Recipe(NamedTuple):
    """A recipe that `alpha-sv train` can run; `about` is the first sentence of its file."""

    name: str
    path: Path
    about: str


def recipes() -> list[Recipe]:
    """Every recipe, sorted by folder and name.

    Example
    -------
    >>> [recipe.name for recipe in recipes() if recipe.path.parts[-3] == "SpeakerTree"]
    ['campplus', 'ecapa', 'resnet']
    """
    return list(_found())


def find_recipe(name: str | os.PathLike) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the package.

    Raises
    ------
    ValueError
        No such file and no such name, with the names that are near.

    Example
    -------
    >>> find_recipe("ecapa").name
    'ecapa.yaml'
    """
    name = os.fspath(name)
    if os.path.isfile(name) or os.sep in name or name.endswith((".yaml", ".yml")):
        return Path(name)  # reading it says what is wrong with it
    known = {recipe.name: recipe.path for recipe in _found()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 3) or sorted(known)[:3]
    raise ValueError(
        f"{name} is neither a file nor the name of a recipe (near: {', '.join(near)}); `alpha-sv recipes` lists them"
    )


def copy_recipes(name: str, target: str | os.PathLike) -> Path:
    """Copy a folder of recipes, such as VoxCeleb,
    into the folder `target`; nothing that is there is overwritten.

    Raises
    ------
    ValueError
        No such folder of recipes, or `target` has one of that name.
    """
    folders = sorted(path.name for path in FOLDER.iterdir() if (path / "hparams").is_dir())
    if name not in folders:
        raise ValueError(f"there is no folder of recipes {name!r}; there are {', '.join(folders)}")
    copy = Path(target) / name
    ignored = shutil.ignore_patterns("__pycache__", "results")
    with whole_folder(copy) as part:
        shutil.copytree(FOLDER / name, part, ignore=ignored, dirs_exist_ok=True)
    return copy


def _found() -> Iterator[Recipe]:
    for script in sorted(FOLDER.glob("*/train.py")):
        for path in sorted((script.parent / "hparams").glob("*.yaml")):
            header = itertools.takewhile(lambda line: line.startswith("# "), path.read_text("utf-8").splitlines())
            first = re.match(r".*?\.(?= |$)|.*", " ".join(line[2:] for line in header))
            yield Recipe(path.stem, path, first[0])
