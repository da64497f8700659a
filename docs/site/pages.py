"""The pages of the site, for mkdocs: the documents where they lie, and the API of every room.

The README is the first page and keeps its links, because every document has the address in the site
that it has in the repository. `api_pages` writes a page for each room from its modules, so that no
public name is forgotten.
"""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("*.md", "docs/*.md", "docs/tutorials/*.md", "recipes/*/*.md", "benchmarks/*.md")
ASSETS = ("docs/site/*.js", "docs/site/*.css", "docs/*.svg")
ROOMS = {  # in the order of the flow, with a line each
    "functional": "The loss family: α-divergence, α-softargmax, Fenchel-Young losses.",
    "losses": "Losses on the cosines of a classifier, drop-in for SpeechBrain's `compute_cost`.",
    "heads": "Prototypes and loss together: dense, sparse, split over processes.",
    "monitor": "How sparse the training is.",
    "diagnosis": "Before fine-tuning: who would have a gradient.",
    "schedule": "Margin, α and learning rate as functions of the epoch.",
    "data": "Audio, corpora and trial lists.",
    "embedding": "The one path from a waveform to its embedding, and the store.",
    "exchange": "Models of other toolkits, and ours for them.",
    "verify": "A model in use: embed, verify, enrol, identify.",
    "scoring": "Cosines, normalisation, calibration.",
    "metrics": "One curve, every metric, intervals over speakers, comparisons.",
    "report": "The report and its figures.",
    "sb": "SpeechBrain: the experiment, safe checkpoints and recipes.",
    "pipeline": "The arrows of the evaluation as functions.",
    "face": "Faces: images, records, pairs, templates.",
    "device": "On which device to compute.",
    "files": "Whole-or-absent writing and the question whether inputs are the same.",
    "demo": "The demo and its synthetic corpus.",
}


def documents() -> list[str]:
    """The addresses of all documents, from the root of the repository."""
    return sorted(str(path.relative_to(ROOT)) for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def assets() -> list[str]:
    """What the site and the documents need besides:
    scripts, styles, and whatever a document links to."""
    found = {str(path.relative_to(ROOT)) for pattern in ASSETS for path in ROOT.glob(pattern)}
    for document in documents():
        for link in re.findall(r"\]\(([^)#\s]+)", (ROOT / document).read_text(encoding="utf-8")):
            target = (ROOT / document).parent / link
            if not link.startswith("http") and target.is_file() and target.suffix != ".md":
                found.add(str(target.resolve().relative_to(ROOT)))
    return sorted(found)


def modules(room: str) -> list[str]:
    """The modules of a room, by their dotted names; the room itself where it is one file."""
    place = ROOT / "alpha_sv" / room
    if not place.is_dir():
        return [f"alpha_sv.{room}"]
    inner = sorted(path.relative_to(ROOT).with_suffix("") for path in place.rglob("*.py"))
    return [".".join(path.parts) for path in inner if not path.name.startswith("_")]


def front_names(package: str) -> Iterator[tuple[str, str]]:
    """Each name of `__all__` and where it is defined, "" for a constant."""
    door = importlib.import_module(package)
    for name in getattr(door, "__all__", ()):
        thing = getattr(door, name)
        if isinstance(thing, types.ModuleType):
            target = thing.__name__
        else:
            target = f"{thing.__module__}.{name}" if hasattr(thing, "__module__") else ""
        yield name, target


def api_pages() -> dict[str, str]:
    """Address → Markdown of the API:
    an index of the names at the door, and a page for each room."""
    import alpha_sv

    lines = ["# API", "", "`import alpha_sv` takes a few milliseconds; a room is imported when it is first asked for."]
    lines += ["", "| at the door | what it is |", "|:--|:--|"]
    lines += [
        f"| [`alpha_sv.{name}`][{target}] | {_first_paragraph(target)} |"
        for name, target in front_names("alpha_sv")
        if name in alpha_sv._NAMES
    ]
    lines += ["", "| room | what is in it |", "|:--|:--|"]
    lines += [f"| [`alpha_sv.{room}`]({room}.md) | {about} |" for room, about in ROOMS.items()]
    pages = {"docs/api/index.md": "\n".join(lines) + "\n"}
    for room, about in ROOMS.items():
        text = [f"# alpha_sv.{room}", "", about, ""]
        names = [f"[`{name}`][{target}]" if target else f"`{name}`" for name, target in front_names(f"alpha_sv.{room}")]
        if names:
            text += [f"From `alpha_sv.{room}` itself: {', '.join(names)}.", ""]
        text += [f"::: {module}\n" for module in modules(room)]
        pages[f"docs/api/{room}.md"] = "\n".join(text)
    return pages


def _first_paragraph(target: str) -> str:
    module, _, name = target.rpartition(".")
    thing = getattr(importlib.import_module(module), name)
    return " ".join((thing.__doc__ or "").strip().partition("\n\n")[0].split()).replace("|", "\\|")


def on_files(files, config):
    """Called by mkdocs: the pages are not those of one folder,
    but those of the whole repository."""
    from mkdocs.structure.files import File, Files

    listed = {name: {"abs_src_path": str(ROOT / name)} for name in [*documents(), *assets()]}
    listed |= {name: {"content": text} for name, text in api_pages().items()}
    kept = [file for file in files if not file.abs_src_path or not str(file.abs_src_path).startswith(config.docs_dir)]
    return Files(kept + [File.generated(config, name, **source) for name, source in sorted(listed.items())])
