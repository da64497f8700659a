"""The verbs that say who speaks: verify, enrol, identify, gallery, serve."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from alpha_sv.cli.verbs import positive, refuse_idle, verb
from alpha_sv.device import HELP

if TYPE_CHECKING:
    from alpha_sv.scoring.calibrator import Calibrator
    from alpha_sv.verify.gallery import Gallery

MODEL = "campplus"
_POINT = 'operating point of the calibrator: "fpr 1e-3", or "p_target P" for a prior P of the same speaker'
_POOR = "go on with recordings that the quality rules refuse, too"


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """verify, enrol, identify, gallery, serve."""
    sub = verb(
        verbs,
        "verify",
        _verify,
        "say whether two recordings are of one speaker",
        'alpha-sv verify a.wav b.wav --point "fpr 1e-3"\n  alpha-sv verify --enrol a1.wav a2.wav --test b.wav',
        "Exit status: 0 same, 1 different or cannot say, 2 error. It cannot say if there is neither a calibrator nor\n"
        "--threshold, if the calibration trials do not support the point, or if a recording is too poor.",
    )
    sub.add_argument("files", nargs="*", metavar="FILE", help="two recordings")
    sub.add_argument("--enrol", nargs="+", default=[], metavar="FILE", help="instead: recordings of one side")
    sub.add_argument("--test", nargs="+", default=[], metavar="FILE", help="and of the other side")
    _options(sub, 'the first supported of "fpr 1e-3" and "fpr 1e-2"', MODEL)

    sub = verb(
        verbs,
        "enrol",
        _enrol,
        "add recordings of a person to a gallery",
        "alpha-sv enrol people.sqlite Ann ann1.wav ann2.wav",
        "GALLERY is made if it is not there. No audio is stored; voices are personal data, so ask first.",
    )
    sub.add_argument("gallery", help="SQLite file")
    sub.add_argument("name", help="of the person")
    sub.add_argument("files", nargs="+", metavar="FILE")
    _model(sub, None)
    sub.add_argument("--allow-poor", action="store_true", help=_POOR)

    sub = verb(
        verbs,
        "identify",
        _identify,
        "say who of a gallery speaks, or that nobody knows",
        "alpha-sv identify people.sqlite who.wav",
        "One line for each file. Exit status: 0 all known, 1 some unknown or too close to call, 2 error.",
    )
    sub.add_argument("gallery", help="SQLite file")
    sub.add_argument("files", nargs="+", metavar="FILE")
    sub.add_argument("--together", action="store_true", help="the files are of one person: one answer")
    _options(sub, '"fpr 1e-2", raised by ln N for N people', None)

    sub = verb(
        verbs,
        "gallery",
        _gallery,
        "list, remove, check, export or re-embed the people of a gallery",
        "alpha-sv gallery people.sqlite check\n  alpha-sv gallery people.sqlite remove Ann",
        "remove leaves no trace of the person in the file. check tries every sample against everybody and gives error\n"
        "rates; export prints all that is stored; reembed changes to another model, while the files are still there.",
    )
    sub.add_argument("gallery", help="SQLite file")
    sub.add_argument("action", choices=("list", "remove", "check", "export", "reembed"), help="what to do")
    sub.add_argument("name", nargs="?", help="whom to remove")
    sub.add_argument("--cohort", nargs="+", metavar="FILE", help="check: recordings of strangers, one for each person")
    _options(sub, '"fpr 1e-2", raised by ln N for N people', None)

    sub = verb(
        verbs,
        "serve",
        _serve,
        "a page in the browser to verify, enrol and identify",
        "alpha-sv serve people.sqlite",
        "For this machine only, unless --host says otherwise; others then need the token, which is printed.",
    )
    sub.add_argument("gallery", nargs="?", help="SQLite file; without one, verification only")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on")
    sub.add_argument("--port", type=int, default=8765, help="0 takes a free one")
    sub.add_argument(
        "--token",
        help="secret that clients must know, 16 characters or more; better in the environment: ALPHA_SV_TOKEN",
    )
    sub.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="by which clients may call it")
    sub.add_argument("--max-mb", type=positive, default=20, help="size of an upload, megabytes")
    sub.add_argument("--max-seconds", type=positive, default=120, help="length of a recording")
    _model(sub, None)
    sub.add_argument("--calibrator", metavar="FILE", help="instead of the one that comes with the model")


def _model(sub: argparse.ArgumentParser, default: str | None) -> None:
    what = "name, model folder, SpeechBrain folder or .onnx file"
    what += "" if default else f"; by default that of the gallery, or {MODEL} for a new one"
    sub.add_argument("--model", default=default, help=what)
    sub.add_argument("--device", help=HELP)


def _options(sub: argparse.ArgumentParser, point: str, model: str | None) -> None:
    _model(sub, model)
    group = sub.add_mutually_exclusive_group()
    group.add_argument("--point", help=f"{_POINT}; by default {point}")
    group.add_argument("--threshold", type=float, help="a threshold of your own, on the cosine")
    sub.add_argument("--calibrator", metavar="FILE", help="instead of the one that comes with the model")
    sub.add_argument("--allow-poor", action="store_true", help=_POOR)
    sub.add_argument("--json", action="store_true", help="print JSON")


def _verify(a: argparse.Namespace) -> int:
    from alpha_sv.verify.model import load_model

    if a.enrol or a.test:
        if a.files or not (a.enrol and a.test):
            raise ValueError("give two files, or --enrol FILE... and --test FILE..., not a mixture")
        sides = (a.enrol, a.test)
    elif len(a.files) != 2:
        raise ValueError(
            f"two files are compared, got {len(a.files)}; several on a side: --enrol FILE... --test FILE..."
        )
    else:
        sides = a.files
    calibrator = _calibrator(a)
    options = {"point": a.point, "threshold": a.threshold, "check_quality": not a.allow_poor}
    decision = load_model(a.model, a.device).verify(*sides, calibrator=calibrator, **options)
    _warn(decision.warnings)
    print(json.dumps(decision.to_json()) if a.json else decision)
    return 0 if decision.same else 1


def _enrol(a: argparse.Namespace) -> None:
    done = _open(a, create=True).enrol(a.name, a.files, allow_poor=a.allow_poor)
    _warn(done.warnings)
    for file in done.known:
        print(f"{file}: enrolled already, the same bytes")
    print(f"{done.name}: {len(done.added)} recording{'s' * (len(done.added) != 1)} added")


def _identify(a: argparse.Namespace) -> int:
    gallery = _open(a)
    options = {"point": a.point, "threshold": a.threshold, "check_quality": not a.allow_poor}
    known = True
    for files in [a.files] if a.together else [[file] for file in a.files]:
        found = gallery.identify(files, **options)
        known = known and found.verdict == "known"
        _warn(found.warnings)
        print(json.dumps({"files": files, **found.to_json()}) if a.json else f"{', '.join(files)}: {found}", flush=True)
    return 0 if known else 1


def _gallery(a: argparse.Namespace) -> None:
    from alpha_sv.verify.gallery import Gallery

    if (a.action == "remove") != (a.name is not None):
        raise ValueError("to forget a person: alpha-sv gallery GALLERY remove NAME")
    if a.action != "check":
        refuse_idle(a, ["cohort", "point", "threshold", "calibrator"], f"with {a.action}, only with check")
    if a.action not in ("check", "reembed"):
        refuse_idle(a, ["model", "device"], f"with {a.action}, only with check and reembed")
    idle = ["allow_poor"] if a.action in ("list", "check", "export") else ["allow_poor", "json"]
    refuse_idle(a, idle, f"with {a.action}")
    if a.action == "check":
        cohort = a.cohort
        found = _open(a).check(cohort, a.point, a.threshold)
        print(json.dumps(found.to_json()) if a.json else found)
        return
    gallery = Gallery(a.gallery)
    if a.action == "list":
        people = gallery.counts()
        lines = [f"{count:4d} samples  {name}" for name, count in people.items()]
        print(json.dumps(people) if a.json else "\n".join(lines) or "nobody is enrolled")
    elif a.action == "remove":
        print(f"{a.name}: {gallery.remove(a.name)} samples removed; nothing of them is left in {gallery.path}")
    elif a.action == "export":
        json.dump(gallery.export(), sys.stdout, indent=1)
        print()
    else:
        from alpha_sv.verify.model import load_model

        if a.model is None:
            raise ValueError("reembed with which model? --model NAME")
        print(f"{gallery.reembed(load_model(a.model, a.device))} samples embedded anew")


def _serve(a: argparse.Namespace) -> None:
    try:
        from alpha_sv.verify.serve import run
        from alpha_sv.verify.upload import Limits
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; the page needs: pip install 'alpha_sv[serve]'") from error
    if a.gallery:
        gallery = _open(a, create=True)
        model = gallery.model
    else:
        from alpha_sv.verify.model import load_model

        gallery, model = None, load_model(a.model or MODEL, a.device)
    limits = Limits(megabytes=a.max_mb, seconds=a.max_seconds)
    token = a.token or os.environ.get("ALPHA_SV_TOKEN") or None
    run(model, gallery, a.host, a.port, token=token, hosts=a.allow_host, limits=limits, calibrator=_calibrator(a))


def _open(a: argparse.Namespace, create: bool = False) -> Gallery:
    from alpha_sv.verify.gallery import Gallery

    calibrator = _calibrator(a)
    source = a.model
    if not source and not (create and (not os.path.exists(a.gallery) or os.path.getsize(a.gallery) == 0)):
        source = Gallery(a.gallery, create=False).model_source
    from alpha_sv.verify.model import load_model

    return Gallery(a.gallery, load_model(source or MODEL, a.device), create=create, calibrator=calibrator)


def _calibrator(a: argparse.Namespace) -> Calibrator | None:
    if not getattr(a, "calibrator", None):
        return None
    from alpha_sv.scoring.calibrator import Calibrator

    return Calibrator.load(a.calibrator)


def _warn(warnings: tuple[str, ...]) -> None:
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
