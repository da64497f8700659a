"""The verb recipes: what there is to train, and a copy of it to change."""

from __future__ import annotations

import argparse

from alpha_sv.cli.verbs import verb


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """recipes."""
    sub = verb(
        verbs,
        "recipes",
        _recipes,
        "list the recipes that come with the package, or copy them",
        "alpha-sv recipes copy VoxCeleb .",
        "alpha-sv train NAME --key=value … runs one; alpha-sv recipes copy FOLDER TARGET takes a folder of them along.",
    )
    sub.add_argument("action", nargs="?", choices=("list", "copy"), default="list", help="what to do")
    sub.add_argument("folder", nargs="?", help="with copy: SpeakerTree, VoxCeleb, …")
    sub.add_argument("target", nargs="?", default=".", help="with copy: the folder to copy it into")


def _recipes(a: argparse.Namespace) -> None:
    from alpha_sv.sb.recipe_list import copy_recipes, recipes

    if a.action == "copy":
        if a.folder is None:
            raise ValueError("copy what? alpha-sv recipes copy SpeakerTree .")
        print(copy_recipes(a.folder, a.target))
        return
    folder = None
    for recipe in recipes():
        if folder != recipe.path.parts[-3]:
            folder = recipe.path.parts[-3]
            print(f"{folder}  ({recipe.path.parents[1]})")
        print(f"  {recipe.name:<36}{recipe.about}")
