#!/usr/bin/env python3
"""The whole path on the Extended Yale Face Database B: three losses, pairs, templates, one table.

    python yale_b.py --data /data/extended_yale_b --output results/yale_b

`--data` holds images/<person>/<image> and pairs_dev.txt, pairs of the test people. Each loss trains
the small iresnet on the other people, four of whom are held out for development. Templates are four
lights of a test person each, in the layout of IJB; the crops are aligned already, so their five
points are the reference points themselves.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from alpha_sv.cli import main as alpha_sv
from alpha_sv.data.trials import read_trials
from alpha_sv.face.images import REFERENCE
from alpha_sv.files import read_json
from alpha_sv.sb.experiment import run

HPARAMS = Path(__file__).parent / "hparams" / "small_folder.yaml"
LOSSES = {
    "cosface": "!new:alpha_sv.losses.AMSoftmax {scale: 32.0, margin: 0.2}",
    "arcface": "!new:alpha_sv.losses.AAMSoftmax {scale: 32.0, margin: 0.2}",
    "q_margin": "!new:alpha_sv.losses.QMargin {alpha: 1.25, scale: 20.0, margin: 0.2}",
}
LIGHTS = 4  # of a template


def write_templates(images: Path, people: list[str], folder: Path) -> None:
    """loose_crop/ and meta/ of templates of `LIGHTS` images,
    each a media of its own; all pairs of templates."""
    (folder / "loose_crop").mkdir(parents=True, exist_ok=True)
    (folder / "meta").mkdir(exist_ok=True)
    rng, lines, points, whose = np.random.default_rng(1), [], [], []
    for person in people:
        names = rng.permutation(sorted(path.name for path in (images / person).iterdir()))
        for first in range(0, len(names) - LIGHTS + 1, LIGHTS):
            for name in names[first : first + LIGHTS]:
                number = len(lines) + 1
                image = Image.open(images / person / name).convert("RGB").resize((112, 112), Image.Resampling.BILINEAR)
                image.save(folder / "loose_crop" / f"{number}.png")
                marks = " ".join(map(str, REFERENCE.ravel()))
                points.append(f"{number}.png {marks} 1.0\n")
                lines.append(f"{number}.png {len(whose)} {number}\n")
            whose.append(person)
    pairs = [f"{a} {b} {int(whose[a] == whose[b])}\n" for a, b in itertools.combinations(range(len(whose)), 2)]
    for name, rows in (("name_5pts_score", points), ("face_tid_mid", lines), ("template_pair_label", pairs)):
        (folder / "meta" / f"yale_{name}.txt").write_text("".join(rows))


def experiment(data: Path, output: Path, **keys) -> None:
    """Train, score and print; `keys` of the recipe win."""
    images, pairs = data / "images", data / "pairs_dev.txt"
    trials = read_trials(pairs)
    people = sorted({name.partition("/")[0] for name in (*trials.enroll.tolist(), *trials.test.tolist())})
    write_templates(images, people, output / "templates")
    for name, loss in LOSSES.items():
        given = {"data_folder": images, "trials": pairs, "output_folder": output / name, "loss": loss, **keys}
        run([HPARAMS, *(f"--{key}={value}" for key, value in given.items())])
        model = str(output / name / "model")
        verb("face", "pairs", model, pairs, "--images", images, "-o", output / f"{name}.txt")
        where = ["-o", output / name / "templates", "--scores", output / f"{name}_templates.txt"]
        verb("face", "templates", model, output / "templates", *where)
    scores = [f"{name}={output / name}.txt" for name in LOSSES]
    verb("evaluate", *scores, "-o", output / "metrics.json")
    verb("report", output / "metrics.json", "-o", output / "report.html")
    print("\nPairs\n")
    verb("face", "tar", *scores)
    protocol = read_json(output / "q_margin" / "templates" / "tar.json", like={"protocol": str})["protocol"]
    print(f"\nTemplates. {protocol}\n")
    verb("face", "tar", *(f"{name}={output / name}_templates.txt" for name in LOSSES))


def verb(*words: object) -> None:
    """`alpha-sv` with these words."""
    if status := alpha_sv([str(word) for word in words]):
        raise SystemExit(status)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and pairs_dev.txt")
    parser.add_argument("--output", type=Path, default=Path("results/yale_b"))
    parser.add_argument("--number_of_epochs", type=int, default=8)
    parsed = parser.parse_args()
    experiment(parsed.data, parsed.output, number_of_epochs=parsed.number_of_epochs)
