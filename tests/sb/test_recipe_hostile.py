"""A recipe from elsewhere is plain data and listed classes,
or is refused, in seconds, with one line that names it."""

import json
import multiprocessing
import signal
import sys
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_sv.sb.recipe_yaml import compose_recipe, load_recipe
from tests.batteries.hostile_recipes import BOMBS, CODE, REFERENCES, TUPLES

pytestmark = pytest.mark.filterwarnings("ignore")  # an anchor twice: ruamel warns, and takes the nearer one
HOSTILE = {
    f"{kind}: {name}": text
    for kind, texts in {"code": CODE, "tuple": TUPLES, "reference": REFERENCES}.items()
    for name, text in texts.items()
}


def refuse(recipe, route=load_recipe):
    with pytest.raises(ValueError, match=r"^.*evil\.yaml[^\n]*$") as caught:
        route(recipe)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_recipe_is_refused_and_nothing_runs(text, tmp_path):
    recipe, proof = tmp_path / "evil.yaml", tmp_path / "it_ran"
    recipe.write_text(text.replace("PROOF", str(proof)), encoding="utf-8", newline="")
    refuse(recipe)
    refuse(recipe, lambda path: load_hyperpyyaml(compose_recipe(path)))  # the text is safe in HyperPyYAML's hands too
    assert not proof.exists()


# those that take one to three seconds of a processor until they are refused
HEAVY = [
    "many directives", "deep by both", "deep by copies", "long text in many places", "copies of long texts",
    "copies of long keys", "copies of long comments", "long anchors in many places",
]  # fmt: skip


def outcomes_of(bombs, folder):
    """What becomes of each recipe in a process
    with 20 s of processor time each and 1 GB to spare."""
    process = multiprocessing.get_context("fork").Process(target=defuse, args=(folder, bombs))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return json.loads((folder / "outcomes.json").read_text())


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    return outcomes_of([name for name in BOMBS if name not in HEAVY], tmp_path_factory.mktemp("light"))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    return outcomes_of(HEAVY, tmp_path_factory.mktemp("heavy"))


def defuse(folder, bombs):
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))

    def stop(*_):
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    outcomes = {}
    for name in bombs:
        (folder / "evil.yaml").write_text(BOMBS[name])
        signal.setitimer(signal.ITIMER_PROF, 20)
        try:
            load_recipe(folder / "evil.yaml")
            outcomes[name] = ["loaded", ""]
        except BaseException as error:
            outcomes[name] = [type(error).__name__, str(error)]
        signal.setitimer(signal.ITIMER_PROF, 0)
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory limit is Linux's")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in BOMBS]
)
def test_bomb_is_refused_in_seconds_and_in_memory(name, request):
    kind, message = request.getfixturevalue("heavy" if name in HEAVY else "light")[name]
    assert kind == "ValueError", (kind, message)
    assert "evil.yaml" in message and "\n" not in message and len(message) < 1000
    assert not any(word in message for word in ("Timeout", "Memory", "memory", "recursion"))


BYTES = {
    "Latin-1": "note: Müller".encode("latin-1"),
    "UTF-16": "note: 1".encode("utf-16"),
    "NUL": b"note: a\0b",
    "escaped NUL": b'note: "a\\0b"',
    "bell": b"note: \x07",
    "half a surrogate": b'note: "\\ud800"',
    "random": bytes(range(256)) * 4,
    "half a letter": b"note: \xc3",
    "empty": b"",
    "comment": b"# nothing",
    "list": b"- a",
    "text": b"hello",
    "number as a key": b"1: 2",
    "nothing as a key": b"~: 2",
    "key twice": b"a: 1\na: 2",
    "tab": b"a:\n\t- b",
    "no such date": b"a: 2001-99-99",
    "no such number": b"a: !!int abc",
    "unclosed": b'a: "b',
    "unknown alias": b"a: *b",
    "arguments of no kind": b"a: !new:alpha_sv.losses.QMargin {[1]: 2}",
    "number as an argument's name": b"a: !new:alpha_sv.losses.QMargin {1: 2}",
    "text for arguments": b"a: !new:alpha_sv.losses.QMargin text",
    "unknown argument": b"a: !new:alpha_sv.losses.QMargin {nothing: 2}",
    "argument of another type": b"a: !new:alpha_sv.losses.QMargin {alpha: [1, 2]}",
    "too many arguments": b"a: !new:alpha_sv.losses.QMargin [1, 2, 3, 4, 5, 6, 7, 8, 9]",
    "seed of another type": b"a: !apply:speechbrain.utils.seed_everything [[1]]",
    "seed too large": b"a: !apply:torch.manual_seed [99999999999999999999999]",
    "merge of a text": b"a: {<<: b}",
    "merge of a reference": b"b: {c: 1}\na: {<<: !ref <b>}",
    "extends a NUL": b'extends: "a\\0b"',
    "extends a long name": b"extends: " + b"a" * 5000,
    "extends a device": b"extends: /dev/zero",
    "extends a folder": b"extends: .",
    "extends itself under another name": b"extends: ./../evil/evil.yaml",
}


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES.keys())
def test_broken_recipe_gives_one_line_that_names_it(content, tmp_path):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.yaml").write_bytes(content)
    refuse(tmp_path / "evil" / "evil.yaml")


def test_each_of_many_files_that_extends_the_next_twice_is_read_a_bounded_number_of_times(tmp_path):
    for i in range(40):
        (tmp_path / f"evil{i}.yaml").write_text(f"extends: [evil{i + 1}.yaml, evil{i + 1}.yaml]")
    (tmp_path / "evil40.yaml").write_text("a: 1")
    (tmp_path / "evil.yaml").write_text("extends: evil0.yaml")
    refuse(tmp_path / "evil.yaml")


def test_many_files_that_are_each_allowed_are_refused_together(tmp_path):
    (tmp_path / "evil.yaml").write_text(f"extends: [{', '.join(['large.yaml'] * 40)}]")
    (tmp_path / "large.yaml").write_text("".join(f"k{i}: [1, 2, 3, 4, 5]\n" for i in range(600)))
    refuse(tmp_path / "evil.yaml")


def test_many_networks_that_are_each_allowed_are_refused_together(tmp_path, monkeypatch):
    monkeypatch.setattr("alpha_sv.sb.recipe_objects.MAX_WEIGHTS", 100_000)
    network = (
        "!new:alpha_sv.embedding.embedder.SpeakerEmbedder\n  {architecture: resnet, embedding_dim: 8, n_mels: 24,\n"
    )
    network += "  channels: [8, 8, 8, 8], block_sizes: [1, 1, 1, 1]}\n"
    (tmp_path / "evil.yaml").write_text(f"x: {network}")
    assert sum(weight.numel() for weight in load_recipe(tmp_path / "evil.yaml")[0]["x"].parameters()) < 100_000
    (tmp_path / "evil.yaml").write_text("x:\n" + f"- {network}" * 50)
    refuse(tmp_path / "evil.yaml")


def test_file_without_end_is_not_read_to_its_end(tmp_path):
    with open(tmp_path / "evil.yaml", "wb") as file:
        file.truncate(2**40)  # sparse
    refuse(tmp_path / "evil.yaml")


def test_link_to_itself(tmp_path):
    (tmp_path / "evil.yaml").symlink_to(tmp_path / "evil.yaml")
    refuse(tmp_path / "evil.yaml")


SEEDS = [text for text in HOSTILE.values() if "checkpoints_dir" not in text]  # a folder, which would be made
SEEDS += ["a: 1\nb: !ref <a> * 2\nc: [!ref x/<b>, (1, 2)]\nd: !copy <c>\ne: &e {f: *e}"]
PIECES = "!;!!;&a ;*a;<;>;<a>;(;);[;];{;};: ;- ;? ;\n; ;';|\n;#;\\;\0;%TAG;---;<<;~;**;\x85;\u2028;__class__".split(";")
PIECES += [
    "!ref ",
    "!copy ",
    "!tuple ",
    "!new:",
    "!apply:os.system ",
    "python/object/apply:",
    "a: 1\n",
    "b: !ref <a>\n",
]
PIECES += ["!new:alpha_sv.losses.QMargin ", '"', "9" * 30]


@st.composite
def mutations(draw):
    """A recipe with pieces cut out, put in, or doubled."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 6))):
        low, high = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.just(text[low:high] * 2), st.text(max_size=3)))
        text = text[:low] + piece + text[high if draw(st.booleans()) else low :]
    return text


TAGS = "!ref;!copy;!tuple;!!str;!!int;!PLACEHOLDER;!apply:torch.manual_seed;!new:alpha_sv.losses.QMargin".split(";")
TAGS += [
    "!name:torch.optim.Adam",
    "&p",
    "&q",
    *[""] * 12,
    "!apply:os.system",
    "!!python/object/apply:os.system",
    "!name:os.system",
]
KEYS = st.sampled_from([*"abcdef", "alpha", "scale", "<<", "? (1)", "1", "<a>"])
PARTS = ["!!python/object/apply:os.system ['touch PROOF']"]
PARTS += "<a>;<b>;<c[a]>;<d[0]>;<e[b][1]>;<a.b>;/x; * 2; + 1;**;';-;(;);!".split(";")
SCALARS = st.lists(st.sampled_from(PARTS), max_size=4).map(lambda parts: json.dumps("".join(parts)))
SCALARS |= st.sampled_from("1;.5;-3;1e3;0x1f;010;yes;~;2020-01-01;(1);'(1, two)';*p;*q;text;.inf;\"\"".split(";"))


def tagged(nodes):
    return st.tuples(st.sampled_from(TAGS), nodes).map(lambda pair: pair[1] if pair[1][:1] == "*" else " ".join(pair))


def collections(nodes):
    mappings = st.lists(st.tuples(KEYS, tagged(nodes)), max_size=3)
    return st.lists(tagged(nodes), max_size=3).map(lambda entries: f"[{', '.join(entries)}]") | mappings.map(
        lambda entries: "{" + ", ".join(f"{key}: {value}" for key, value in entries) + "}"
    )


TREES = st.dictionaries(
    st.sampled_from("abcdef"), tagged(st.recursive(SCALARS, collections, max_leaves=6)), min_size=1
).map(lambda tree: "\n".join(f"{key}: {node}" for key, node in tree.items()))
TEXTS = st.one_of(TREES, st.text(), st.lists(st.sampled_from(PIECES)).map("".join), mutations())


def loads_or_is_refused(folder, text):
    recipe, proof = folder / "evil.yaml", folder / "it_ran"
    proof.unlink(missing_ok=True)
    recipe.write_text(text.replace("PROOF", str(proof)), encoding="utf-8", errors="surrogatepass", newline="")
    try:
        _, saved = load_recipe(recipe)
    except ValueError as error:
        assert "evil.yaml" in str(error) and "\n" not in str(error)
    else:
        recipe.write_text(saved, encoding="utf-8", newline="")
        assert load_recipe(recipe)[1].count("\n") > 0, "what a run saves loads again"
    assert not proof.exists()


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_any_text_loads_or_gives_a_value_error(tmp_path_factory, text):
    loads_or_is_refused(tmp_path_factory.getbasetemp(), text)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(TEXTS)
def test_any_text_loads_or_gives_a_value_error_slow(tmp_path_factory, text):
    loads_or_is_refused(tmp_path_factory.getbasetemp(), text)
