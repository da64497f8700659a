"""What the README and the documents promise is there and runs."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/tutorials/*.md"), *ROOT.glob("recipes/*/README.md")]
)


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def test_python_snippets_run():
    snippets = blocks(README, "python")
    assert snippets
    printed = ""
    for snippet in snippets:
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "support" in done.stdout or "print" not in snippet
        printed += done.stdout
    assert "support" in printed


def test_yaml_snippets_build():
    from hyperpyyaml import load_hyperpyyaml

    for text in (README, (ROOT / "docs/losses.md").read_text(encoding="utf-8")):
        for snippet in blocks(text, "yaml"):
            assert load_hyperpyyaml(snippet)["compute_cost"].scale == 10.0


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_make_targets(target):
    assert re.search(rf"^make {target}\b", README, flags=re.M)
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("alpha-sv demo" if target == "demo" else "pytest") in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for link in re.findall(r"(?:\]\(|^\[\d+\]: )([^)#\n]+)", document.read_text(encoding="utf-8"), flags=re.M):
        if not link.startswith("http"):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_alpha_sv_commands_parse(document):
    from alpha_sv.cli.parser import EXAMPLES, build_parser

    text = document.read_text(encoding="utf-8") + (EXAMPLES if document.name == "README.md" else "")
    text = text.replace("\\\n", " ")
    for line in re.findall(r"^\s*(?:\$ )?(alpha-sv (?!train|VERB)[^\n#(]*)", text, flags=re.M):
        if "`" not in line and "…" not in line and "|" not in line:
            assert build_parser().parse_args(shlex.split(line, comments=True)[1:]).run is not None, line


def test_the_readme_is_short_and_no_line_is_cut_off():
    lines = README.splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 100


def test_links_of_the_readme_say_where_they_lead():
    """Outside of the repository they may lead nowhere; the path is to be read all the same."""
    words = re.sub(r"\]\([^)]*\)|^\[\d+\]: .*$", "]", README, flags=re.M)
    for link in re.findall(r"(?:\]\(|^\[\d+\]: )([^)#\n]+)", README, flags=re.M):
        if not link.startswith("http") and not link.endswith(".svg"):
            assert link.removesuffix("/README.md") in words, link


def test_results_of_the_readme_are_those_of_the_generated_tables():
    table = README[README.index("| measured |") :].split("\n\n")[0]
    sources = dict(re.findall(r"^(\[\d+\]): (\S+)$", README, flags=re.M))
    text = {
        key: (ROOT / path).read_text(encoding="utf-8").replace("−", "-").replace("‑", "-")
        for key, path in sources.items()
    }
    rows = re.findall(r"^\| (.+?) \| (.+?) \| \[\w+\](\[\d+\]) \|$", table, flags=re.M)
    assert len(rows) == 7
    for what, result, key in rows:
        for number in re.findall(r"[+−]?\d[\d,]*(?:\.\d+)?", result.split(":")[0]):
            assert re.search(rf"(?<![\d.]){re.escape(number.replace('−', '-'))}(?!\d)", text[key]), f"{what}: {number}"
    interval = {what: result.split(":")[0].replace("−", "-") for what, result, _ in rows if "[" in result}
    generated = text["[1]"].split("<!-- seeds verdict -->")[1].split("<!-- end -->")[0]
    for name, wanted in zip(("ecapa", "resnet"), list(interval.values())[:2], strict=True):
        part = generated.split(f"**{name}, cosine**")[1]
        row = next(line for line in part.splitlines() if line.startswith("| Q-Margin 1.5"))
        assert wanted in row.split("|")[3], row
    adapted = difference("finetuning", FURTHER.format("cosine"), "Q-Margin 1.5, further")
    assert list(interval.values())[-1] == adapted[0]
    milliseconds = re.findall(r"([\d,.]+) ms\b", README)
    assert len(milliseconds) >= 3
    for number in milliseconds:  # also in the words beneath the table
        assert f" {number} " in text["[3]"], number


def difference(study, after, row):
    """EER, and misses at 1 % and 0.1 % FPR, of the first line
    of that name after those words; no spread of seeds."""
    text = (ROOT / f"docs/results_{study}.md").read_text(encoding="utf-8").split(after)[1]
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.split(" ±")[0].strip() for cell in line.split("|")[3:-1]]


FURTHER = "| difference to CosFace, further, {} |"


def test_the_verdict_has_the_numbers_of_the_generated_tables():
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8").replace("−", "-")
    table = text.split("| Q-Margin 1.5 against CosFace |")[1].split("\n\n")[0]
    assert [[cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()[2:]] == [
        difference("from_scratch", "<!-- seeds verdict -->\n**ecapa, cosine**", "Q-Margin 1.5"),
        difference("from_scratch", "**resnet, cosine**", "Q-Margin 1.5, m 0.1"),
        difference("from_scratch", "<!-- scales verdict -->\n**ecapa, cosine**", "Q-Margin 1.5"),
        difference("finetuning", "| difference to CosFace, cosine |", "Q-Margin 1.5"),
        difference("finetuning", FURTHER.format("cosine"), "Q-Margin 1.5, further"),
        difference("finetuning", FURTHER.format("as-norm"), "Q-Margin 1.5, further"),
    ]


def test_the_version_is_the_same_everywhere():
    import alpha_sv

    version = alpha_sv.__version__
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)[0]
    assert newest == version


def test_loss_table_names_every_loss():
    from alpha_sv.losses import NAMED

    for text in (README, (ROOT / "docs/losses.md").read_text(encoding="utf-8")):
        assert all(f"`{name}`" in text for name in NAMED)


def test_every_recipe_has_a_registry_row_a_readme_and_a_micro_run():
    with open(ROOT / "recipes/registry.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for column in ("train", "hparams", "readme", "micro_run"):
            assert (ROOT / row[column]).is_file(), row
        assert Path(row["hparams"]).name in (ROOT / row["readme"]).read_text(encoding="utf-8")
    listed = {row["hparams"] for row in rows}
    assert listed == {str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/*/hparams/*.yaml")}


def test_nothing_here_speaks_of_one_machine():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for name in files:
        if (ROOT / name).is_file() and name != "tests/test_readme.py":
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            for word in ("/root/", "/work/", "/home/", "../shared"):
                assert word not in text, f"{name} has {word}"
