"""Runs the code of the tutorials, each in a folder of its own,
and holds what it prints against what its page says.

    python docs/site/tutorials.py                          # run all of them, report what differs
    python docs/site/tutorials.py --write PAGE.md …        # put what was printed into the pages

Blocks of ``bash`` and ``python`` run in their order. A block with a title is written to that file
first. A block of ``text`` right below is what the one above prints; a line "…" stands for any
lines. Numbers must agree to 1 %, unless the page says "numbers of your machine may differ": then
the words must, and there must be as many numbers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("docs/tutorials/*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?', flags=re.M | re.S)
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
LOOSE = "numbers of your machine may differ"
# 1 is how `verify` says "different"; anything above is an error
SHELL = "trap 's=$?; [ $s -le 1 ] || exit $s' ERR; set -E -o pipefail\n"


def printed(page: Path, folder: Path) -> Iterator[tuple[str, str | None, str]]:
    """Each block of a page that runs, as its code,
    what it should print, and what it prints in `folder`."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(paths), "COLUMNS": "80"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for kind, title, code, expected in (found.groups() for found in BLOCK.finditer(page.read_text(encoding="utf-8"))):
        if title:
            (folder / title).write_text(code, encoding="utf-8")
        commands = {"bash": ["bash", "-c", SHELL + code], "python": [sys.executable, "-c", code]}
        if kind not in commands or title:
            continue
        done = subprocess.run(commands[kind], cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode > 1 or "Traceback" in done.stderr:
            raise RuntimeError(f"{page.name}: exit status {done.returncode} of\n{code}\n{done.stderr[-4000:]}")
        yield code, expected, done.stdout.replace(f"{folder}{os.sep}", "")


def agree(expected: str, found: str, numbers: bool = True) -> bool:
    """Whether an output is the one that a page shows:
    its words, and its numbers to a hundredth of each."""
    expected, found = (re.sub(" +", " ", text.rstrip("\n")) for text in (expected, found))
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "…" else f"({NUMBER.pattern})".join(map(re.escape, NUMBER.split(line))) + r"\n"
        for line in expected.splitlines()
    )
    if (match := re.fullmatch(pattern, found + "\n")) is None:
        return False
    shown = NUMBER.findall(expected.replace("…", ""))
    pairs = ((_value(a), _value(b)) for a, b in zip(shown, match.groups(), strict=True))
    return not numbers or all(abs(a - b) <= 0.01 * max(abs(a), 0.1) for a, b in pairs)


def _value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))


def rewritten(page: Path, folder: Path) -> str:
    """The page with what its blocks print now; blocks with a line "…" stay."""
    text = page.read_text(encoding="utf-8")
    for code, expected, found in printed(page, folder):
        if expected is not None and "…" not in expected:
            text = text.replace(f"{code}```\n\n```text\n{expected}```\n", f"{code}```\n\n```text\n{found}```\n")
    return text


def main(arguments: list[str]) -> int:
    pages = [Path(name).resolve() for name in arguments if name != "--write"] or PAGES
    failed = 0
    for page in pages:
        with tempfile.TemporaryDirectory(prefix="tutorial_") as folder:
            if "--write" in arguments:
                page.write_text(rewritten(page, Path(folder)), encoding="utf-8")
                continue
            numbers = LOOSE not in page.read_text(encoding="utf-8")
            for code, expected, found in printed(page, Path(folder)):
                if expected is not None and not agree(expected, found, numbers):
                    failed += 1
                    print(f"{page.name}:\n{code}\nshould print\n{expected}\nand prints\n{found}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
