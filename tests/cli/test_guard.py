"""Whatever happens to a verb, its user reads one line,
and the files that were given are as they were."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from alpha_sv.cli import main
from alpha_sv.cli.guard import guarded
from alpha_sv.cli.parser import build_parser

SCORES = "a/1 a/2 0.9 target\na/1 b/1 0.1 nontarget\n"


def cli(command, cwd, **options):
    return subprocess.run(
        [sys.executable, "-m", "alpha_sv.cli", *command.split()], cwd=cwd, capture_output=True, text=True, **options
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Inputs of every verb that reads and writes files; they need not be sound to be kept."""
    for name in ("s.txt", "t.txt", "m.json", "train_log.jsonl", "cal.json", "utt2spk"):
        (tmp_path / name).write_text(SCORES)
    (tmp_path / "E").mkdir()
    np.save(tmp_path / "E/embeddings.npy", np.ones((2, 2)))
    (tmp_path / "E/index.csv").write_text("ID,spk_id,split\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


INPLACE = [
    ("evaluate {0} -o {1}/", "s.txt"),
    ("evaluate {} -o {}", "s.txt"),
    ("evaluate x={} s.txt -o {}", "t.txt"),
    ("evaluate s.txt --trials {} -o {}", "t.txt"),
    ("evaluate s.txt --speakers {} -o {}", "utt2spk"),
    ("compare s.txt {} -o {}", "t.txt"),
    ("score E {} -o {}", "t.txt"),
    ("score E t.txt --models {} -o {}", "utt2spk"),
    ("score E t.txt -o {1}", "E/embeddings.npy"),
    ("normalize {} --embeddings E -o {}", "s.txt"),
    ("calibrate {} -o {}", "s.txt"),
    ("calibrate s.txt --calibrator {} -o {}", "cal.json"),
    ("calibrate s.txt --qualities {} -o {}", "m.json"),
    ("report {} -o {}", "m.json"),
    ("report m.json --log {} -o {}", "train_log.jsonl"),
    ("extract E {} -o {}", "m.json"),
]


@pytest.mark.parametrize("how", ["same", "spelling", "symlink", "hard link", "linked folder", "absolute"])
@pytest.mark.parametrize(("command", "name"), INPLACE, ids=lambda x: x.partition(" ")[0])
def test_no_verb_overwrites_its_input(folder, capsys, command, name, how):
    other = {"same": name, "spelling": f"E/..//./{name}", "absolute": str(folder / name)}.get(how, f"other{name[-5:]}")
    if how == "symlink":
        os.symlink(folder / name, other.replace("/", "_"))
        other = other.replace("/", "_")
    elif how == "hard link":
        other = other.replace("/", "_")
        os.link(name, other)
    elif how == "linked folder":
        os.symlink(".", "here")
        other = f"here/{name}"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(command.format(name, other).split()) == 2
    assert "would be lost" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("import alpha_sv.cli as c\nwith c._no_traceback(): os.kill(os.getpid(), 2)", -2, ""),
        (
            "import alpha_sv.cli\nimport alpha_sv.cli.parser as p\np.build_parser = lambda: os.kill(os.getpid(), 2)\n"
            "sys.exit(alpha_sv.cli.main(['evaluate']))",
            130,
            "alpha-sv: interrupted; run the same command again to continue\n",
        ),
    ],
    ids=["first imports", "parsing"],
)
def test_an_interrupt_before_the_verb_begins_is_no_traceback(program, status, said):
    hearing = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # some runners ignore it
    command = [sys.executable, "-c", f"import os, sys\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, **hearing)
    assert (done.returncode, done.stderr) == (status, said)


def test_standard_streams_are_files_too(folder):
    with open("s.txt") as given, open("s.txt", "a") as taken:
        for command, streams in (
            ("evaluate - --replicates 0 -o s.txt", {"stdin": given}),
            ("evaluate /dev/stdin --replicates 0 -o s.txt", {"stdin": given}),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "alpha_sv.cli", *command.split()], stderr=subprocess.PIPE, text=True, **streams
            )
            assert done.returncode == 2 and "would be lost" in done.stderr
        command = [sys.executable, "-m", "alpha_sv.cli", "evaluate", "s.txt", "--replicates", "0", "-o", "-"]
        done = subprocess.run(command, stdout=taken, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2 and "would be lost" in done.stderr
    assert (folder / "s.txt").read_text() == SCORES


def test_other_files_may_be_written_again(folder):
    for _ in range(2):
        assert main("evaluate s.txt --replicates 0 -o E/new.json".split()) == 0
        assert main("evaluate s=s.txt --baseline s --replicates 0 -o s".split()) == 0
        assert main("report E/new.json --title r.html --fact page=r.html -o r.html".split()) == 0
    assert json.loads((folder / "s").read_text())["systems"][0]["name"] == "s"


def test_every_option_is_known_to_be_a_file_or_not():
    """A new option of free text counts as an input, unless its verb says that it is a word."""

    def verbs_of(parser):
        for group in parser._subparsers._group_actions:
            for name, inner in group.choices.items():
                yield from verbs_of(inner) if inner._subparsers else [(name, inner)]

    for name, parser in verbs_of(build_parser()):
        known = {action.dest for action in parser._actions}
        for declared in ("reads", "words"):
            assert set(parser.get_default(declared)) <= known, (name, declared)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("a\nb"), 2, "alpha-sv: error: a b"),
        (OSError(28, "No space left on device", "x.txt"), 2, "alpha-sv: error: x.txt: No space left on device"),
        (MemoryError("Unable to allocate 22 GiB"), 2, "not enough memory (Unable to allocate 22 GiB)"),
        (ImportError("no pyarrow"), 2, "no pyarrow"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "torch is not installed, and this command"),
        (KeyError("lr"), 70, "KeyError: 'lr' (unexpected; set ALPHA_SV_TRACEBACK=1"),
        (RecursionError("too deep"), 70, "RecursionError: too deep"),
        (AssertionError(), 70, "error: AssertionError (unexpected"),
        (RuntimeError("Attempting to deserialize object on a CUDA device"), 70, "CUDA device"),
    ],
)
def test_an_exception_is_one_line(error, status, text, capsys, monkeypatch):
    def fail():
        raise error

    assert guarded(fail) == status
    line = capsys.readouterr().err
    assert text in line and line.count("\n") == 1
    monkeypatch.setenv("ALPHA_SV_TRACEBACK", "1")
    assert guarded(fail) == status
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith(line)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_end_with_a_message(name):
    code = f"""
import os, signal, sys, time
from alpha_sv.cli.guard import guarded
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs behind it without
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup what it runs
def run():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(20)
    finally:
        print("tidied", flush=True)
sys.exit(guarded(run))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + getattr(signal, name) and done.stdout == "tidied\n"
    said = "interrupted" if name == "SIGINT" else f"ended by {name}"
    assert done.stderr == f"alpha-sv: {said}; run the same command again to continue\n"


def test_a_signal_that_is_ignored_stays_so_and_forked_workers_just_end():
    code = """
import os, signal, sys
from alpha_sv.cli.guard import guarded
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
def run():
    os.kill(os.getpid(), signal.SIGHUP)
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.exit(guarded(run))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGTERM}\n", "")


def test_a_full_disk_names_the_file_and_keeps_the_old_one(folder):
    (folder / "out.json").write_text("old")
    code = """
import resource, signal, sys
from alpha_sv.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(main("evaluate s.txt --replicates 0 -o out.json".split()))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 2 and "out.json: File too large" in done.stderr and done.stderr.count("\n") == 1
    assert (folder / "out.json").read_text() == "old" and not list(folder.glob(".*.part"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("csv", b'ID,spk_id\n"a,b\n'),
        ("deep.json", b"[" * 100_000),
        ("big.json", b'{"format": "alpha_sv.metrics/1", "systems": ' + b"1" * 5000 + b"}"),
        ("gz", b"\x1f\x8b\x08\x00cut"),
        ("bytes", bytes(range(256))),
        ("utf16", "a b".encode("utf-16")[:-1]),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(folder, capsys, name, content):
    (folder / name).write_bytes(content)
    for command in ("evaluate s.txt --speakers {}", "evaluate {}", "evaluate s.txt --trials {}"):
        assert main(command.format(name).split()) == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1
    (folder / "s.txt.sources.json").write_bytes(content)
    assert main(["evaluate", "s.txt", "--replicates", "0"]) == 2
    assert "s.txt.sources.json" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_a_library_puts_in_place_of_an_interrupt_is_one(number, capsys):
    def half_an_import():
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except KeyboardInterrupt:
            raise RecursionError("maximum recursion depth exceeded") from None

    before = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}[number]
    outside = signal.signal(number, before)  # a shell starts what runs behind it with SIGINT ignored
    try:
        assert guarded(half_an_import) == 128 + number
        assert "run the same command again to continue" in capsys.readouterr().err
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, outside)


def test_a_full_disk_behind_an_error_of_libtorch_is_told(capsys, tmp_path):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device", "model.ckpt")

    torch = pytest.importorskip("torch")
    assert guarded(lambda: torch.save({"weight": torch.zeros(9)}, Full())) == 2
    assert "model.ckpt: No space left on device" in capsys.readouterr().err
