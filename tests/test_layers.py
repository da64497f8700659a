"""The import order of docs/architecture.md, read from the source:
a room imports only rooms listed for it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alpha_sv

PACKAGE = Path(__file__).parents[1] / "alpha_sv"
ALLOWED = {
    "moved": set(),
    "inputs": set(),
    "unfinished": set(),
    "locks": {"inputs", "unfinished"},
    "files": {"inputs", "locks", "unfinished"},
    "functional": set(),
    "monitor": {"functional"},
    "schedule": set(),
    "margin_loss": {"functional", "monitor"},
    "losses": {"margin_loss"},
    "diagnosis": {"functional", "monitor", "losses"},
    "heads": {"files", "functional", "losses", "monitor"},
    "data": {"files"},
    "embedding": {"files", "data"},
    "scoring": {"files", "data.trials"},
    "metrics": set(),
    "report": {"files", "metrics"},
    "device": set(),
    "face": {"files", "device", "data", "embedding", "scoring", "metrics"},
    "exchange": {"files", "data", "embedding"},
    "verify": {"files", "device", "data", "embedding", "exchange", "scoring"},
    "sb": {
        "files",
        "moved",
        "device",
        "diagnosis",
        "exchange",
        "functional",
        "losses",
        "monitor",
        "schedule",
        "heads",
        "data",
        "embedding",
        "scoring",
        "metrics",
    },
    "pipeline": {"files", "data", "embedding", "scoring", "metrics", "report"},
    "demo": {"files", "data", "embedding", "exchange", "pipeline", "report", "sb", "verify"},
    "cli": {
        "files",
        "losses",
        "device",
        "exchange",
        "verify",
        "metrics",
        "data",
        "embedding",
        "scoring",
        "pipeline",
        "report",
        "sb",
        "face",
        "demo",
        "__version__",
    },
}
WITHIN_DATA = {  # the rooms of data/: corpus takes from both of the others, which do not know of each other
    "data.audio": {"files"},
    "data.trials": {"files"},
    "data.corpus": {"files", "data.audio", "data.trials"},
}
THIRD_PARTY = {  # what a room may import from outside the standard library
    "moved": set(),
    "inputs": {"numpy"},  # to read its files, and only then
    "unfinished": set(),
    "locks": set(),
    "files": set(),
    "device": {"torch"},
    "functional": {"torch"},
    "monitor": {"torch"},
    "margin_loss": {"torch"},
    "losses": {"torch"},
    "diagnosis": {"torch"},
    "schedule": set(),
    "heads": {"torch"},
    "metrics": {"numpy", "scipy"},
    "face": {"torch", "numpy", "scipy", "tqdm", "PIL"},
    "scoring": {"numpy", "scipy", "tqdm"},
    "data": {"numpy", "pyarrow", "scipy", "soundfile", "torch", "torchaudio", "tqdm"},  # torch only to resample
    "report": {"numpy", "scipy", "matplotlib"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "alpha_sv":
                yield from (f"alpha_sv.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_rooms_import_only_to_their_left():
    for path in FILES:
        room, inner = room_of(path), ".".join(path.relative_to(PACKAGE).parts[:2])
        allowed = WITHIN_DATA[inner] | {inner} if inner in WITHIN_DATA else ALLOWED[room] | {room}
        for target in (name.removeprefix("alpha_sv.") for name in imports(path) if name.startswith("alpha_sv.")):
            assert any(target == a or target.startswith(a + ".") for a in allowed), f"{path} imports {target}"


def test_rooms_keep_to_their_libraries():
    for path in FILES:
        if (room := room_of(path)) in THIRD_PARTY:
            outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"alpha_sv"}
            assert outside <= THIRD_PARTY[room], f"{path} imports {outside - THIRD_PARTY[room]}"


def test_every_room_has_its_line():
    assert {room_of(path) for path in FILES} == set(ALLOWED)


def without(blocked, code):
    """Run `code` in a Python that cannot import the packages `blocked`."""
    blocks = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    subprocess.run([sys.executable, "-c", f"import sys\n{blocks}{code}"], check=True)


@pytest.mark.slow
def test_losses_and_heads_work_without_speechbrain():
    """As the libraries of their rooms say already."""
    without(["speechbrain", "torchaudio", "soundfile"], "import alpha_sv.losses, alpha_sv.heads")


def test_the_evaluation_works_without_torch_and_speechbrain():
    rooms = "metrics, scoring, report, data.trials, pipeline.evaluate, pipeline.calibrate, cli".split(", ")
    code = "import alpha_sv\n" + "".join(f"import alpha_sv.{room}\n" for room in rooms)
    without(["torch", "torchaudio", "speechbrain", "hyperpyyaml", "soundfile"], code)


def test_the_door_shows_every_room_and_opens_them_lazily():
    code = """
import alpha_sv
assert not {"torch", "numpy"} & set(sys.modules)
assert alpha_sv.metrics.eer([0.9], [0.1])[0] == 0
assert "torch" not in sys.modules
"""
    without([], code)
    assert all(getattr(alpha_sv, name) is not None for name in dir(alpha_sv))
