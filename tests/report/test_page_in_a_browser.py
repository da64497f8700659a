"""A real browser opens the report: nothing is too wide,
no label is cut off or covered, nothing is fetched."""

import html
import json
import re
import shutil
import subprocess

import pytest

from alpha_sv.report import write_report
from tests.fixtures.metrics_json import HOSTILE, comparison, metrics, system, training_log

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = (390, 1280)
# The report itself runs no script:
# this page around it holds every report in a frame of each width and measures.
MEASURE = """<!doctype html><meta charset="utf-8"><body>%s<pre id="found"></pre><script>
const CURVES = /(curve|dotted|act|min|points|loss|valid-eer|lr|margin|support|zero-target|target|drawn)(-\\d+)?$/;
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    page.querySelectorAll("details").forEach(details => { details.open = true; });
    const cut = [...page.querySelectorAll("svg text")].filter(text => {
      const box = text.getBoundingClientRect(), all = text.closest("svg").getBoundingClientRect();
      return box.left < all.left - 1 || box.right > all.right + 1
          || box.top < all.top - 1 || box.bottom > all.bottom + 1;
    });
    const covers = (a, b) =>
      a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom;
    const hidden = [];
    page.querySelectorAll("svg").forEach(svg => {
      const all = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / all.width;
      const labels = [...svg.querySelectorAll("text")].map(text => ({text, box: text.getBoundingClientRect()}));
      labels.forEach((one, i) => labels.slice(i + 1).forEach(other => {
        if (covers(one.box, other.box)) hidden.push(one.text.textContent + " / " + other.text.textContent);
      }));
      svg.querySelectorAll("g[id] > path[clip-path]").forEach(path => {
        if (!CURVES.test(path.parentNode.id)) return;
        const clip = page.getElementById(path.getAttribute("clip-path").slice(5, -1)).querySelector("rect");
        const [x, y, w, h] = ["x", "y", "width", "height"].map(name => +clip.getAttribute(name));
        for (let k = 0; k <= 300; k++) {
          const at = path.getPointAtLength(path.getTotalLength() * k / 300);
          if (at.x < x || at.x > x + w || at.y < y || at.y > y + h) continue;
          const where = {left: all.left + at.x / unit, top: all.top + at.y / unit};
          labels.filter(({box}) => box.left < where.left && where.left < box.right && box.top < where.top
                        && where.top < box.bottom).forEach(({text}) => hidden.push(text.textContent + " / a curve"));
        }
      });
    });
    return {title: page.title, wide: root.scrollWidth - root.clientWidth, height: root.scrollHeight,
            hidden: [...new Set(hidden)],
            cut: cut.map(text => text.textContent),
            fetched: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name)};
  });
  document.querySelectorAll("iframe").forEach(frame => frame.remove());
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def measured(folder, pages):
    """What the browser found, as {(name, width): {title, wide, cut, hidden, fetched, height}}."""
    frames = "".join(
        f'<iframe style="width: {width}px; height: 800px" srcdoc="{html.escape(text)}"></iframe>'
        for text in pages.values()
        for width in WIDTHS
    )
    (folder / "measure.html").write_text(MEASURE % frames, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    command = [BROWSER, *flags, (folder / "measure.html").as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)[1]))
    names = [(name, width) for name in pages for width in WIDTHS]
    return dict(zip(names, found, strict=True))


def reports(folder):
    entries = [(f"{kind} {p}", -0.1234, [-0.2345, -0.0123]) for kind in ("min_dcf", "act_dcf") for p in (0.01, 0.05)]
    long = "as-norm-with-the-mean-of-every-training-speaker-" * 3
    full = metrics(
        system("cosine", llr=True, nontargets=20000),
        system(long, llr=True),
        system(HOSTILE, 0.5, seed=3),
        comparison=comparison((long, *entries), (HOSTILE, *entries)),
    )
    facts = {"Command": "x" * 500, "Corpus": "mine"}
    full["systems"][0]["sources"]["model"] = {"file": "results/" + "long/" * 40 + "model", "sha256": "a" * 64}
    full["systems"][0]["hardest"]["misses"][0]["enroll"] = "a" * 200
    many = metrics(*(system(f"system {i}", 2 + i / 5, seed=i) for i in range(12)))
    plain = metrics(system("one", targets=30, nontargets=30, intervals=False, conditions=False))
    return {
        "full": write_report(folder / "full.html", full, training_log(), facts=facts, notes=["y" * 300], title="full"),
        "many": write_report(folder / "many.html", many, title="many"),
        "plain": write_report(folder / "plain.html", plain, title="plain"),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("browser")
    pages = {name: path.read_text(encoding="utf-8") for name, path in reports(folder).items()}
    pages["bad"] = (
        '<title>bad</title><div style="width: 2000px">wide</div><img src="http://evil.example/x.png">'
        '<svg width="50" height="20"><text x="20" y="15">longer than the drawing</text></svg>'
        '<svg width="150" height="20" viewBox="0 0 150 20"><clipPath id="c"><rect x="0" y="0" width="150" height="20"/>'
        '</clipPath><text x="0" y="15">one</text><text x="9" y="15">two</text><text x="60" y="15">three</text>'
        '<g id="drawn"><path clip-path="url(#c)" d="M 55 10 L 150 10"/></g></svg>'
    )
    return measured(folder, pages)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["full", "many", "plain"])
@pytest.mark.slow
def test_report_fits_a_phone_and_a_desk_and_fetches_nothing(found, name, width):
    page = found[name, width]
    assert page["title"] == name and page["height"] > 1500
    assert page["wide"] <= 0
    assert page["cut"] == []
    assert page["hidden"] == []  # labels over each other, or over a curve
    assert page["fetched"] == []


@pytest.mark.slow
def test_the_measurement_would_notice(found):
    for width in WIDTHS:
        page = found["bad", width]
        assert page["wide"] >= 2000 - width
        assert page["cut"] == ["longer than the drawing"]
        assert page["hidden"] == ["one / two", "three / a curve"]
        assert len(page["fetched"]) == 1
