"""Markdown and the sentences of a comparison: the same words and numbers as the page."""

import re

import pytest

from alpha_sv.report import comparison_markdown, to_markdown, write_markdown, write_report
from alpha_sv.report.glossary import glossary
from alpha_sv.report.wording import sentence
from tests.fixtures.html_page import ERRORS, Page
from tests.fixtures.metrics_json import HOSTILE, comparison, metrics, sha256, system

ONLY_ON_THE_PAGE = ("Error trade-off", "Scores")


@pytest.fixture(scope="module")
def pair():
    compared = comparison(("as-norm", ("eer", -0.008, [-0.012, -0.003]), ("min_dcf 0.01", 0.01, [-0.02, 0.04])))
    return metrics(system("cosine"), system("as-norm", 2.8, seed=1), comparison=compared)


def rows(markdown):
    """Cells of every table line; a column's end is a bar that is not escaped."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]] for line in lines]


def test_markdown_and_page_show_the_same_tables(tmp_path, pair):
    page = Page(write_report(tmp_path / "r.html", pair).read_text(encoding="utf-8"))
    assert rows(to_markdown(pair))[1:] == page.table(ERRORS)
    text = write_markdown(tmp_path / "r.md", pair).read_text(encoding="utf-8")
    shown = [row for table in page.tables for row in table[1:]]
    headers = {tuple(table[0]) for table in page.tables}
    found = [row for row in rows(text) if tuple(cell.replace(" (", "(") for cell in row) not in headers]
    figures, found = found[:7], found[7:]  # key figures, cards on the page
    assert [figures[0][0], *(row[0] for row in figures[1:])] == ["key figure", *page.text("h3")[:6]]
    assert found == shown
    sections = [heading for heading in page.text("h2") if heading not in ONLY_ON_THE_PAGE]
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == sections


def test_markdown_has_title_verdict_facts_notes_command_and_whole_hashes(tmp_path, pair):
    options = {"title": "My title", "facts": {"Corpus": "mine"}, "notes": ["One.", "Two."]}
    text = write_markdown(tmp_path / "r.md", pair, **options).read_text(encoding="utf-8")
    assert text.startswith("# My title\n\n**At 1 false accept in 100 impostor trials, ")
    assert "with the lowest EER: **as-norm**. 400 target and 4,000 nontarget trials; 95 % intervals" in text
    assert "System: **cosine**." in write_markdown(tmp_path / "r.md", pair, first="cosine").read_text(encoding="utf-8")
    for term, meaning in glossary(pair["systems"][1]):
        assert f"* {term}: " in text and meaning[:20] in text
    assert "* Corpus: mine" in text and "One.\n\nTwo." in text
    assert "    alpha-sv evaluate scores_cosine.txt\n" in text and sha256("trials") in text


def test_every_row_of_a_table_has_as_many_cells_as_its_header_whatever_the_names(tmp_path):
    hostile = metrics(system(HOSTILE), system(r"back\slash\|bar"), comparison=comparison((HOSTILE, ("eer", 0, [0, 0]))))
    text = write_markdown(tmp_path / "r.md", hostile, title=HOSTILE, notes=[HOSTILE]).read_text(encoding="utf-8")
    assert "<script" not in re.sub("^    .*$", "", text, flags=re.MULTILINE)  # indented: a command, shown as it is
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, rule, *lines = block.splitlines()
        width = rule.count("|") - 1
        assert [len(row) for row in rows("\n".join([header, *lines]))] == [width] * (1 + len(lines))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("eer", -0.008, [-0.012, -0.003])], "B is better than A at EER: −0.80 points [−1.20, −0.30]."),
        ([("eer", 0.008, [0.003, 0.012])], "B is worse than A at EER: +0.80 points [+0.30, +1.20]."),
        ([("eer", 0.0, [0.0, 0.0])], "B and A cannot be told apart at EER."),
        ([("eer", -0.1, [-0.2, 0.0])], "B and A cannot be told apart at EER."),  # a bound of 0 does not leave it out
        ([("eer", 0, [-1, 1]), ("cllr", 0, [-1, 1])], "B and A cannot be told apart at any of the 2 metrics."),
        (
            [("min_dcf 0.01", -0.1, [-0.2, -0.05]), ("fnr at fpr 1e-2", 0.1, [0.05, 0.2]), ("min_cllr", 0, [-1, 1])],
            "B is better than A at minDCF 0.01: −0.1000 [−0.2000, −0.0500]. It is worse than A at FNR at FPR 1e-2: "
            "+10.00 points [+5.00, +20.00]. They cannot be told apart at minCllr.",
        ),
    ],
)
def test_a_difference_in_words(entries, words):
    pair = comparison(("B", *entries), baseline="A")["pairs"][0]
    assert sentence("A", pair) == words


def test_comparison_in_markdown_has_a_sentence_and_a_table_for_each_pair(pair):
    text = comparison_markdown(pair["comparison"])
    assert "as-norm is better than cosine at EER: −0.80 points [−1.20, −0.30]." in text
    header, eer, dcf = rows(text)
    assert header == ["metric", "cosine", "as-norm", "difference", "lower in", "finding"]
    assert eer == ["EER %", "10.00", "9.20", "−0.80 [−1.20, −0.30]", "97.5 %", "better"]
    assert dcf == ["minDCF 0.01", "0.1000", "0.1100", "+0.0100 [−0.0200, +0.0400]", "97.5 %", "cannot be told apart"]


def test_a_training_log_becomes_a_table_from_its_beginning_to_its_end(tmp_path, pair):
    log = [
        {"kind": "train", "step": n, "loss": 5 / n, "lr": 0.1, "support": 9.0, "zero_loss": 0.25} for n in range(1, 60)
    ]
    log += [{"kind": "valid", "step": n, "eer": abs(n - 40) / 100} for n in range(2, 60, 2)]
    text = write_markdown(tmp_path / "r.md", pair, log=log).read_text(encoding="utf-8")
    part = text[text.index("## Training") :].split("\n## ")[0]
    assert "The lowest is 0.00 %, at step 40 of 58." in part
    rows = [line.split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
    assert rows[0][0] == "| 2" and rows[-1][0] == "| 58" and len(rows) == 6
    assert [rows[0][n] for n in (2, 5, 6)] == ["2.500", "9.0", "25"]
    assert "## Training" not in write_markdown(tmp_path / "r.md", pair).read_text(encoding="utf-8")
