"""What is printed fits a terminal, lines up, and says what the page says."""

import re

import pytest

from alpha_sv.report import comparison_text, to_text
from tests.fixtures.metrics_json import HOSTILE, comparison, metrics, of_scores, system


def long(name, **options):
    return system(name, 2.0, targets=2000, nontargets=60_000, conditions=False, **options)


@pytest.fixture(scope="module")
def three():
    entries = [("eer", -0.0123, [-0.0234, -0.0012]), *((f"min_dcf {p}", 0.1, [-0.1, 0.3]) for p in (0.01, 0.05))]
    entries.append(("fnr at fpr 1e-2", -0.1234, [-0.2345, -0.0123]))
    names = ["cosine", "as-norm of the means of all training speakers, of which there are many", "llrs"]
    systems = [long(names[0]), long(names[1], seed=1), long(names[2], llr=True)]
    return metrics(*systems, comparison=comparison((names[1], *entries), (names[2], *entries)))


def test_no_line_is_longer_than_80_characters_and_none_ends_in_blanks(three):
    hostile = metrics(system(HOSTILE, llr=True), system("x" * 200, -3.0), comparison=comparison((HOSTILE * 3,)))
    for text in (to_text(three), comparison_text(three["comparison"]), to_text(hostile)):
        for line in text.splitlines():
            assert len(line) <= 80 and line == line.rstrip() and line.isprintable()


def test_columns_line_up_and_numbers_end_in_one_place(three):
    blocks = [block.splitlines() for block in to_text(three).split("\n\n") if "EER %" in block]
    assert len(blocks) == 2  # two systems side by side, the third below
    for block in blocks:
        ends = [[match.end() for match in re.finditer(r"\d+\.\d+(?= [(\[])", line)] for line in block[1:]]
        columns = max(map(len, ends))
        for column in range(columns):
            assert len({line[column] for line in ends if len(line) == columns}) == 1
    names = " ".join(block[0] for block in blocks)
    assert "cosine" in names and "as-norm of the means" in names and "…" in names and "llrs" in names


def test_every_number_is_there_with_its_interval_and_what_it_rests_on(three):
    text = to_text(three)
    for entry in three["systems"]:
        low, high = entry["intervals"]["eer"]
        assert f"{100 * entry['eer']['value']:.3f} [{100 * low:.3f}, {100 * high:.3f}]" in text
        for dcf, (low, high) in zip(entry["min_dcf"], entry["intervals"]["min_dcf"], strict=True):
            assert f"{dcf['value']:.4f} [{low:.4f}, {high:.4f}]" in text
        for fnr in entry["fnr_at_fpr"]:
            rests = f"({fnr['false_accepts']:,})" if fnr["supported"] else f"n/a ({fnr['false_accepts']} false accepts)"
            assert rests in text and (f"{100 * fnr['fnr']:.2f} (" in text) == fnr["supported"]
    assert text.count("2,000 target and 60,000 nontarget trials") == 1


def test_costs_of_likelihood_ratios_are_shown_for_those_who_declared_them(three):
    llr = three["systems"][2]
    lines = [line for line in to_text(three).splitlines() if re.match("Cllr|actDCF", line)]
    assert [line.split("  ")[0] for line in lines] == 2 * ["actDCF 0.01", "actDCF 0.05", "Cllr (bits)"]
    assert f"{llr['cllr']:.4f} [" in lines[-1] and f"{llr['act_dcf'][0]['value']:.4f} [" in lines[3]
    assert not re.search("Cllr|actDCF", to_text(metrics(long("cosine"))))


def test_scores_of_the_wrong_sign_get_a_hint():
    inverted = of_scores("l2", [0.1, 0.2, 0.9], [0.8, 1.0, 1.5], intervals=False)
    assert re.search(r"l2: the EER is 66\.67 %.*distances.*change\s+the\s+sign", to_text(metrics(inverted)), re.DOTALL)
    assert "distances" not in to_text(metrics(of_scores("cosine", [0.8, 1.0, 1.5], [0.1, 0.2, 0.9], intervals=False)))


def test_a_comparison_is_a_sentence_and_its_differences(three):
    text = comparison_text(three["comparison"])
    assert "llrs is better than cosine at EER: −1.23 points [−2.34, −0.12]" in text
    assert re.search(r"^minDCF 0\.01 +0\.1000 +0\.2000 +\+0\.1000 \[−0\.1000, \+0\.3000\]$", text, re.MULTILINE)
