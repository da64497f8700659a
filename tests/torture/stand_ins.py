"""What is put in the place of something large,
or of a person, in the process of a command before it runs."""

from __future__ import annotations

import dataclasses
import functools
import http.client
import json
import logging
import os
import sys
import threading
from pathlib import Path


def small_published_model() -> None:
    """`models get` knows one model, of 81 MB; here it is a small one."""
    from alpha_sv.exchange import pretrained
    from alpha_sv.files import sha256_file

    config = {"architecture": "campplus", "embedding_dim": 24, "n_mels": 40, "channels": 4, "init_channels": 16}
    config |= {"block_sizes": [2, 2], "growth": 4}
    known = pretrained.MODELS["campplus"]
    pretrained.MODELS["campplus"] = dataclasses.replace(known, sha256=sha256_file("backbone.pt"), config=config)
    os.environ["ALPHA_SV_CACHE"] = os.path.abspath("cache")


SPEAKERS = {"num_train_speakers": 9, "num_test_speakers": 4, "utterances_per_speaker": 4, "sessions_per_speaker": 2}
_SIZES = (
    "--channels=[16,16,16,16,48] --embedding_dim=8 --n_mels=24 --chunk_seconds=0.4 --number_of_epochs=2 "
    "--batch_size=8 --num_valid_speakers=5 --num_workers=0 --audit=headers --ckpt_interval_steps=2 "
    "--ckpt_interval_minutes=0 --warmup_epochs=0.5 --cooldown_epochs=0.5 --device=cpu"
).split()
_MARGIN = "--margin_schedule={increase_start_epoch: 0, fix_start_epoch: 1}"


def small_demo() -> None:
    """Thirteen speakers, and two epochs of a network with few channels."""
    from alpha_sv.demo import run

    run.build_corpus = functools.partial(run.build_corpus, **SPEAKERS, workers=1, progress=False)
    train, run.TOP_N = run.run, 3
    run.run = lambda argv: train([*argv, *_SIZES, _MARGIN])
    run.evaluate_files = functools.partial(run.evaluate_files, replicates=50)


def corpus_alone() -> None:
    """The demo ends when it has its corpus."""
    from alpha_sv.demo import run

    def end(argv: list[str]) -> None:
        output = next(word for word in argv if word.startswith("--output_folder=")).partition("=")[2]
        (Path(output) / "trained").touch()
        sys.exit(0)

    small_demo()
    run.run = end


def visitor() -> None:
    """Somebody who enrols, identifies and removes on the page of `serve`, and then stops it.

    An answer that is an error is told as a command tells it, so that it is judged like one.
    """
    import uvicorn

    serve = uvicorn.Server.run

    def run(server: uvicorn.Server, sockets: list) -> None:
        errors: list[str] = []
        port = sockets[0].getsockname()[1]
        threading.Thread(target=_visit, args=(server, port, errors), daemon=True).start()
        serve(server, sockets=sockets)
        if errors:
            raise ValueError(errors[0])

    uvicorn.Server.run = run
    logging.getLogger("alpha_sv.verify.serve").setLevel(logging.ERROR)  # the port is another each time


def _visit(server, port: int, errors: list[str]) -> None:
    ann, dan = Path("wav/spk0/s0/02.wav").read_bytes(), Path("wav/spk3/s0/00.wav").read_bytes()
    try:
        for path, fields in (
            ("enrol", {"name": b"Dan", "file": dan}),
            ("identify", {"file": ann, "threshold": b"0.1"}),
            ("remove", {"name": b"Bob"}),
        ):
            status, answer = _post(port, f"/api/{path}", fields)
            gone = path == "remove" and "Bob" in answer.get("error", "") and status == 422  # by an earlier visit
            if status != 200 and not gone:
                errors.append(f"{status} {answer.get('error')}")
                break
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"Traceback (most recent call last): the visitor got no answer: {error!r}", file=sys.stderr)
    finally:
        server.should_exit = True


def _post(port: int, path: str, fields: dict[str, bytes]) -> tuple[int, dict]:
    body = b""
    for name, content in fields.items():
        file = '; filename="x.wav"' if name == "file" else ""
        body += f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())
