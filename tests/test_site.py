"""The site: the tutorials do what they say,
the API has every public name, nothing is loaded from elsewhere."""

import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def site(name):
    """A script of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / f"docs/site/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tutorials, pages = site("tutorials"), site("pages")
FIXED = """
load_model Gallery export
functional.alpha_softargmax functional.fenchel_young_loss losses.QMargin losses.A3M losses.AMSoftmax losses.AAMSoftmax
heads.CosineHead heads.SparseHead scoring.cosine_scores scoring.as_norm scoring.cohort_statistics metrics.eer
metrics.min_dcf metrics.fnr_at_fpr metrics.cllr metrics.min_cllr metrics.act_dcf
verify.model.SpeakerModel verify.decision.Decision verify.gallery.Gallery verify.open_set.Identification
""".split()


@pytest.mark.slow
@pytest.mark.parametrize("page", tutorials.PAGES, ids=lambda page: page.stem)
def test_tutorials_print_what_they_say(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    if "models get campplus" in text:
        from alpha_sv.exchange.pretrained import get_model

        try:
            get_model("campplus")
        except ValueError as error:
            pytest.skip(f"the published model is not here and cannot be fetched: {error}")
    if "alpha_sv[demo]" in text or ".[demo]" in text:
        pytest.importorskip("espeakng_loader")
    shown = 0
    for code, expected, found in tutorials.printed(page, tmp_path):
        if expected is not None:
            assert tutorials.agree(expected, found, tutorials.LOOSE not in text), f"{code}\n{expected}\n{found}"
            shown += 1
    assert shown >= 1


def test_outputs_agree_in_words_and_where_it_is_asked_for_in_numbers():
    assert tutorials.agree("EER 3.1 %\n…\nend\n", "EER 3.1 %\na\nb\nend\n")
    assert not tutorials.agree("EER 3.1 %\n", "EER 3.2 %\n")
    assert tutorials.agree("EER 12.25 %, 1,234\n", "EER  12.26 %, 1,235\n")
    assert tutorials.agree("EER  3.1 %\n", "EER 12.25 %\n", numbers=False)
    assert not tutorials.agree("EER 3.1 %\n", "EER n/a\n", numbers=False)


def test_every_tutorial_shows_outputs_and_uses_verbs_that_there_are():
    from alpha_sv.cli.parser import build_parser

    verbs = next(action.choices for action in build_parser()._actions if action.dest == "verb")
    assert len(tutorials.PAGES) == 4
    for page in [*tutorials.PAGES, ROOT / "docs/cheat_sheet.md"]:
        used = re.findall(r"\balpha-sv ([a-z]+)", page.read_text(encoding="utf-8"))
        assert used or page.stem == "speechbrain"
        assert set(used) <= set(verbs), page.name


def test_the_cheat_sheet_has_every_verb():
    from alpha_sv.cli.parser import build_parser

    verbs = next(action.choices for action in build_parser()._actions if action.dest == "verb")
    used = re.findall(r"alpha-sv ([a-z]+)", (ROOT / "docs/cheat_sheet.md").read_text(encoding="utf-8"))
    assert set(verbs) - {"face", "recipes"} <= set(used)


def test_the_api_has_every_public_name():
    """Names at the door, names of the rooms, and those that
    are promised to stay; each in a module that has a page."""
    written = pages.api_pages()
    documented = {module for text in written.values() for module in re.findall(r"^::: (\S+)", text, flags=re.M)}
    import alpha_sv

    assert set(alpha_sv._ROOMS) <= set(pages.ROOMS)
    for package in ("alpha_sv", *(f"alpha_sv.{room}" for room in pages.ROOMS)):
        for name, target in pages.front_names(package):
            if target and not target.startswith("builtins") and name not in alpha_sv._ROOMS:
                assert {target, target.rpartition(".")[0]} & documented, f"{package}.{name}: {target}"
    text = "\n".join(written.values())
    for name in FIXED:
        room, _, leaf = name.rpartition(".")
        home = importlib.import_module(f"alpha_sv.{room}" if room else "alpha_sv")
        thing = getattr(home, leaf)
        assert thing.__module__ in documented, name
        assert f".{leaf}" in text or thing.__module__ == f"alpha_sv.{room}", name


def test_every_document_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"\S+\.md\b", text[text.index("\nnav:") :])
    assert sorted(listed) == sorted([*pages.documents(), *pages.api_pages()])


def test_the_site_asks_for_nothing_from_elsewhere():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False and config["use_directory_urls"] is False
    for script in config["extra"]["polyfills"] + config["extra_css"]:
        assert (ROOT / script).is_file()


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs pip install 'alpha_sv[docs]'")
@pytest.mark.slow
def test_the_site_builds_and_is_whole(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\s\">]+)", html)
        loaded += re.findall(r"<link[^>]* rel=\"?stylesheet\"? [^>]*href=\"?([^\s\">]+)", html)
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], page


def test_the_picture_says_what_it_shows():
    root = ElementTree.parse(ROOT / "docs/demo.svg").getroot()
    words = " ".join(text for text in root.itertext() if text.strip())
    assert root.tag.endswith("svg") and re.search(r"as-norm: EER \d+\.\d\d %", words)
    assert "docs/site/picture.py" in (ROOT / "Makefile").read_text(encoding="utf-8")
