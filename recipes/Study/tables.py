"""The tables of a study, in Markdown: how each row was trained,
its errors, and its differences to the baselines."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from estimates import METRICS, difference
from findings import DEVELOPMENT, Findings
from geometry import geometry
from outcome import KINDS

from alpha_sv.files import atomic_write

_COMPARED = ("eer", "fnr at fpr 1e-2")
_REGIME = {"support": ("active speakers", 1), "zero_loss": ("zero loss %", 100), "zero_target": ("p_y = 0 %", 100)}


def result_tables(found: list[Findings]) -> dict[str, str]:
    """Markdown of all that is done: brief is of all models;
    digest, verdict, training, geometry, tables of each."""
    found = [of for of in found if of.finished()]
    parts = {"brief": _brief(found), "digest": [], "verdict": [], "training": [], "geometry": [], "tables": []}
    for of in found:
        parts["digest"].append(f"**{of.model}**\n\n{_digest(of)}")
        parts["training"].append(f"**{of.model}**\n\n{_training(of)}")
        parts["verdict"] += [f"**{of.model}, {kind}**\n\n{table}" for kind in KINDS for table in _verdict(of, kind)]
        parts["geometry"] += [f"**{of.model}**\n\n{table}" for table in _geometry(of)]
        for corpus in of.corpora:
            for kind in KINDS:
                title = f"### {of.model}, {corpus}, {kind}\n"
                parts["tables"].append("\n".join([title, _errors(of, corpus, kind), *_differences(of, corpus, kind)]))
    return {name: "\n".join(texts) for name, texts in parts.items()}


def tuning_table(grid: dict, runs: list, outcomes: dict[str, dict]) -> str:
    """Markdown: the development EER of every setting that was tried;
    the lowest of a row, which is chosen, in bold."""
    parts = []
    for model in dict.fromkeys(run.model for run in runs):
        lines = head("row", "development EER % of each setting")
        for row in dict.fromkeys(run.row for run in runs if run.model == model):
            mine = [run for run in runs if (run.model, run.row) == (model, row) and run.key in outcomes]
            eers = [100 * outcomes[run.key]["development_eer"] for run in mine]
            cells = [f"{_setting(grid, run)}: {eer:.2f}" for run, eer in zip(mine, eers, strict=True)]
            if cells:
                best = eers.index(min(eers))  # the first of equals, as `grid.chosen`
                cells[best] = f"**{cells[best]}**"
            lines.append(line([row, "; ".join(cells) or "n/a"]))
        parts.append(f"**{model}**\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def write_between(path: Path, name: str, parts: dict[str, str]) -> None:
    """Replace what stands between the lines `<!-- name part -->`
    and `<!-- end -->` of a document, for parts it has."""
    text, found = path.read_text(encoding="utf-8"), 0
    for part, new in parts.items():
        pattern = rf"(<!-- {re.escape(name)} {part} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda match, new=new: f"{match[1]}{new}{match[2]}", text, flags=re.DOTALL)
        found += count
    if not found:
        raise ValueError(f"{path} has no place for tables: lines <!-- {name} {' or '.join(parts)} --> and <!-- end -->")
    with atomic_write(path) as file:
        file.write(text)


def _brief(found: list[Findings]) -> list[str]:
    """EER on the lists of enough speakers, cosine → AS-norm,
    models beside each other; one table, or none.

    A row that a model has no run of has a dash there.
    """
    columns = [(of, corpus, of.rows()) for of in found for corpus in of.with_intervals()]
    lines = head("EER %", *(f"{corpus}, {of.model}" for of, corpus, _ in columns))
    for row in dict.fromkeys(row for of in found for row in of.grid["rows"]):
        if not any(row in rows for *_, rows in columns):
            continue
        cells = [_levels(of, corpus, row, "eer") if row in rows else "–" for of, corpus, rows in columns]
        lines.append(line([row, *cells]))
    return ["\n".join(lines) + "\n"] if columns else []


def _levels(found: Findings, corpus: str, row: str, metric: str) -> str:
    """Cosine → AS-norm, without intervals."""
    levels = [found.estimates(corpus, kind).level(row, metric) for kind in KINDS]
    return " → ".join(f"{level[0]:.2f}" if level else "n/a" for level in levels) if any(levels) else "n/a"


def _digest(found: Findings) -> str:
    """EER and FNR at 1 % FPR of every list, cosine → AS-norm;
    means over seeds, without intervals."""
    columns = [(corpus, metric) for corpus in found.corpora for metric in _COMPARED]
    lines = head("row", *(f"{corpus}: {METRICS[metric][0]}" for corpus, metric in columns))
    for row in found.rows():
        lines.append(line([row, *(_levels(found, corpus, row, metric) for corpus, metric in columns)]))
    return "\n".join(lines) + "\n"


def _training(found: Findings) -> str:
    """The setting, the development trials,
    and the sparse regime in the last epoch: means over seeds."""
    tuned = any("tune" in found.grid["rows"][row] for row in found.rows())
    figures = ["development EER %", *(name for name, _ in _REGIME.values()), "minutes"]
    lines = head("row", *(["setting"] if tuned else []), "seeds", *figures)
    for row in found.rows():
        runs = found.finished(row)
        mean, low, high = found.eer(row, DEVELOPMENT)
        cells = [row, *([_setting(found.grid, runs[0])] if tuned else []), str(len(runs))]
        cells.append(f"{mean:.2f}" + (f" ({low:.2f} to {high:.2f})" if low < high else ""))
        for key, (_, factor) in _REGIME.items():
            curve = found.curve(row, key)
            cells.append(f"{factor * curve[-1, 1]:.1f}" if curve.size else "n/a")
        seconds = [found.done[run.key].get("training_seconds") for run in runs]
        known = [value for value in seconds if value is not None]
        cells.append(f"{np.mean(known) / 60:.1f}" if known else "n/a")
        lines.append(line(cells))
    return "\n".join(lines) + "\n"


def _geometry(found: Findings) -> list[str]:
    """Mean cosines over training speakers and seeds;
    one table, or none where no run left its prototypes."""
    lines = head("row", "prototype and own mean", "nearest two prototypes", "nearest two means")
    for row in found.rows():
        runs = [(run, found.folder(run)) for run in found.finished(row)]
        figures = [of for run, folder in runs if (of := geometry(folder, run.manifest(folder)))]
        if figures:
            means = [np.mean([of[key] for of in figures]) for key in ("own", "prototypes", "means")]
            lines.append(line([row, *(f"{mean:.2f}" for mean in means)]))
    return ["\n".join(lines) + "\n"] if len(lines) > 2 else []


def _setting(grid: dict, run) -> str:
    """What the run has of its row's `tune`."""
    options = dict(run.options)
    return ", ".join(shown(key, options[key]) for key in grid["rows"][run.row].get("tune", {}))


def shown(key: str, value: str) -> str:
    """An option in few words.

    Example
    -------
    >>> shown("loss", "!new:alpha_sv.losses.QMargin {alpha: 1.25, scale: auto}")
    'QMargin {alpha: 1.25, scale: auto}'
    >>> shown("margin", "0.2")
    'margin 0.2'
    """
    module = re.match(r"!new:[\w.]*\.(?=\w)", value)
    return value[module.end() :] if module else f"{key} {value}"


def _errors(found: Findings, corpus: str, kind: str) -> str:
    of = found.estimates(corpus, kind)
    lines = head("row", "seeds", *(name for name, _, _ in METRICS.values()))
    for row in found.rows():
        cells = [cell(of.level(row, metric), metric) for metric in METRICS]
        lines.append(line([row, str(len(of.seeds(row))), *cells]))
    return "\n".join(lines) + "\n"


def _differences(found: Findings, corpus: str, kind: str) -> list[str]:
    """One table, or none without baselines."""
    of, rows = found.estimates(corpus, kind), found.rows()
    pairs = [(row, metric) for row in found.baselines() for metric in _COMPARED]
    lines = head("difference", *(f"{METRICS[metric][0]}, − {baseline}" for baseline, metric in pairs))
    for row in rows:
        cells = [
            cell(of.difference(row, baseline, metric), metric, "+") if row != baseline else ""
            for baseline, metric in pairs
        ]
        lines.append(line([row, *cells]))
    return ["\n".join(lines) + "\n"] if pairs else []


def _verdict(found: Findings, kind: str) -> list[str]:
    """Differences to the baselines, the mean of all lists that have intervals;
    one table, or none without baselines."""
    lists = [found.estimates(corpus, kind) for corpus in found.with_intervals()]
    rows, metrics = found.rows(), (*_COMPARED, "fnr at fpr 1e-3")
    tables = []
    for baseline in found.baselines() if lists else ():
        lines = head(f"difference to {baseline}", "seeds", *(METRICS[metric][0] for metric in metrics))
        for row in rows:
            if row != baseline:
                seeds = lists[0].seeds(row).keys() & lists[0].seeds(baseline).keys()
                cells = [cell(difference(lists, row, baseline, metric), metric, "+") for metric in metrics]
                lines.append(line([row, str(len(seeds)), *cells]))
        tables.append("\n".join(lines) + "\n")
    return tables


def head(*names: str) -> list[str]:
    return [line(names), "|---|" + "--:|" * (len(names) - 1)]


def line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def cell(estimate: tuple[float, float, float, float] | None, metric: str, sign: str = "") -> str:
    """Mean over seeds, [interval over speakers] ± standard
    deviation of one seed, which of a difference is paired."""
    if estimate is None:
        return "n/a"
    form = f"{sign}.{METRICS[metric][2]}f"
    value, low, high, spread = estimate
    interval = "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"
    return f"{value:{form}}{interval}" + ("" if math.isnan(spread) else f" ± {spread:{form.lstrip('+')}}")
