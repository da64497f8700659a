"""Made-up results for the tests of the report, complete as alpha_sv.metrics/2 wants them."""

import hashlib

import numpy as np

from alpha_sv.metrics import evaluate, evaluate_conditions

HOSTILE = '</text></svg><script src="http://evil.example/x.js">alert(1)</script>$x_1$ id="a" | \udcff\x00\n*.txt'
# what a reader should see of it: control characters and bytes that are no text are blanks
HARMLESS = '</text></svg><script src="http://evil.example/x.js">alert(1)</script>$x_1$ id="a" | *.txt'


def system(name, shift=2.5, targets=400, nontargets=4000, seed=0, **options):
    """A system of Gaussian scores of variance 1 at `shift` and 0; options as `of_scores`."""
    generator = np.random.default_rng(seed)
    return of_scores(name, generator.normal(shift, 1.0, targets), generator.normal(0.0, 1.0, nontargets), **options)


def of_scores(name, target, nontarget, intervals=True, llr=False, conditions=True):
    """A system of these scores; with ``conditions``, women and men in turn, and three targets of unknown gender."""
    target, nontarget = np.asarray(target, dtype=float), np.asarray(nontarget, dtype=float)
    result = {"name": name, **evaluate(target, nontarget, llr=llr)}
    result["trials"]["repeated"] = 0
    result["intervals"] = _intervals(result) if intervals else None
    scores, labels = np.concatenate([target, nontarget]), np.arange(target.size + nontarget.size) < target.size
    gender = np.where(np.arange(scores.size) % 2, "m", "f").astype("<U9")
    gender[:3] = "unknown"
    result["conditions"] = evaluate_conditions(scores, labels, {"gender": gender}, llr=llr) if conditions else []
    result["hardest"] = {
        side: [
            {"enroll": f"spk{i}/a.wav", "test": f"spk{i}/{side}.wav", "score": float(x)} for i, x in enumerate(scores)
        ]
        for side, scores in (("misses", np.sort(target)[:20]), ("false_accepts", -np.sort(-nontarget)[:20]))
    }
    result["sources"] = {
        "scores": {"file": f"scores_{name}.txt", "sha256": sha256(name)},
        "trials": {"file": "trials.txt", "sha256": sha256("trials")},
        "command": f"alpha-sv evaluate scores_{name}.txt",
    }
    return result


def metrics(*systems, comparison=None):
    return {"format": "alpha_sv.metrics/2", "systems": list(systems), "comparison": comparison}


def sha256(text):
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _intervals(result):
    def around(value):
        return [0.9 * value, 1.1 * value]

    return {
        "resampled": "speakers", "speakers": 40, "replicates": 1000, "level": 0.95, "seed": 1234, "undefined": 0,
        "eer": around(result["eer"]["value"]),
        "min_dcf": [around(entry["value"]) for entry in result["min_dcf"]],
        "fnr_at_fpr": [around(e["fnr"]) if e["supported"] else None for e in result["fnr_at_fpr"]],
        "min_cllr": around(result["min_cllr"]),
        "cllr": None if result["cllr"] is None else around(result["cllr"]),
        "act_dcf": None if result["act_dcf"] is None else [around(entry["value"]) for entry in result["act_dcf"]],
    }  # fmt: skip


def comparison(*pairs, baseline="cosine"):
    """Each pair: a system's name with (metric, difference, [low, high]) for each of its metrics."""
    return {
        "baseline": baseline, "resampled": "speakers", "speakers": 40, "replicates": 1000, "level": 0.95, "seed": 1,
        "pairs": [
            {
                "system": name,
                "metrics": [
                    {
                        "metric": metric, "baseline": 0.1, "system": 0.1 + difference, "difference": difference,
                        "interval": interval, "sign": 0.975,
                    }
                    for metric, difference, interval in entries
                ],
            }
            for name, *entries in pairs
        ],
    }  # fmt: skip


def training_log(steps=200):
    rows = []
    for step in range(1, steps + 1):
        row = {"kind": "train", "step": step, "epoch": step / 50, "loss": 5 / step, "accuracy": 0.5, "lr": 1e-3}
        row |= {"margin": 0.2, "scale": 10.0, "support": 1000 * 0.99**step, "zero_loss": 0.3, "zero_target": 0.1}
        rows.append(row)
        if step % 50 == 0:
            rows.append({"kind": "valid", "step": step, "epoch": step // 50, "eer": 4 / step, "min_dcf": 0.5})
    return rows
