"""The import order of docs/architecture.md, read from the source: a room imports only rooms listed for it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alpha_sv"
ALLOWED = {
    "functional": set(),
    "monitor": {"functional"},
    "schedule": set(),
    "losses": {"functional", "monitor"},
    "heads": {"functional", "losses", "monitor"},
    "data": set(),
    "embedding": {"data"},
    "scoring": {"data"},
    "metrics": set(),
    "report": {"metrics", "data.files"},
    "sb": {"functional", "losses", "monitor", "schedule", "heads", "data", "embedding", "scoring", "metrics"},
    "pipeline": {"data", "embedding", "scoring", "metrics", "report"},
    "exchange": {"data", "embedding"},
    "verify": {"data", "embedding", "exchange", "scoring"},
    "demo": {"data", "embedding", "pipeline", "report", "sb"},
    "cli": {
        "exchange",
        "verify",
        "metrics",
        "data",
        "embedding",
        "scoring",
        "pipeline",
        "report",
        "sb",
        "demo",
        "__version__",
    },
}
THIRD_PARTY = {  # what a room may import from outside the standard library
    "functional": {"torch"},
    "monitor": {"torch"},
    "losses": {"torch"},
    "schedule": set(),
    "heads": {"torch"},
    "metrics": {"numpy", "scipy"},
    "scoring": {"numpy", "scipy", "tqdm"},
    "data": {"numpy", "scipy", "soundfile", "tqdm", "espeakng_loader"},
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_to_their_left(path):
    room = room_of(path)
    for name in imports(path):
        if name.startswith("alpha_sv."):
            target = name.removeprefix("alpha_sv.")
            allowed = ALLOWED[room] | {room}
            assert any(target == a or target.startswith(a + ".") for a in allowed), f"{room} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_keep_to_their_libraries(path):
    import sys

    room = room_of(path)
    if room in THIRD_PARTY:
        outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"alpha_sv"}
        assert outside <= THIRD_PARTY[room], f"{room} imports {outside - THIRD_PARTY[room]}"


def test_every_room_has_its_line():
    assert {room_of(path) for path in FILES} == set(ALLOWED)


def test_losses_and_metrics_work_without_speechbrain():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['speechbrain'] = None\n"
        "import alpha_sv.losses, alpha_sv.heads, alpha_sv.metrics, alpha_sv.scoring\n"
        "assert 'torchaudio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
