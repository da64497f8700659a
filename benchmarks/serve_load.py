"""Many clients of `alpha-sv serve` at once:
is anything lost, and how long does the slowest twentieth wait?

    python benchmarks/serve_load.py --model campplus --clients 50

Each client enrols a person of its own, identifies another recording and compares the two,
`--rounds` times. Recordings are synthetic (noise in bands, 3 s at 16 kHz), so no data is needed.
Everything runs on this machine, the clients too.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile
from hardware import describe

from alpha_sv.verify.gallery import Gallery

RATE, SECONDS = 16000, 3.0


def recording(person: int, take: int) -> bytes:
    """A voice-like noise: bands of its own, in bursts."""
    rng = np.random.default_rng((person, 0))
    gains = np.repeat(rng.lognormal(0, 1, 40), round(SECONDS * RATE) // 80)
    noise = np.random.default_rng((person, take, 1)).standard_normal(round(SECONDS * RATE))
    spectrum = np.fft.rfft(noise)
    spectrum[: len(gains)] *= gains
    spectrum[len(gains) :] = 0
    wave = np.fft.irfft(spectrum, len(noise)) * (np.arange(len(noise)) // 3200 % 3 > 0)
    file = io.BytesIO()
    soundfile.write(file, 0.5 * wave / np.abs(wave).max(), RATE, format="WAV")
    return file.getvalue()


def post(port: int, call: str, files: list[tuple[str, bytes]], **texts: str) -> tuple[float, int, dict]:
    """Seconds, status and answer."""
    parts = [f'--bound\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in texts.items()]
    for field, content in files:
        head = f'--bound\r\nContent-Disposition: form-data; name="{field}"; filename="x"\r\n\r\n'.encode()
        parts.append(head + content + b"\r\n")
    body = b"".join(parts) + b"--bound--\r\n"
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", f"/api/{call}", body, {"Content-Type": "multipart/form-data; boundary=bound"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return time.monotonic() - start, answer.status, found


def client(port: int, number: int, rounds: int, done: list) -> None:
    for turn in range(rounds):
        person = 1000 * turn + number
        one, other = recording(person, 0), recording(person, 1)
        for call, files, texts in (
            ("enrol", [("file", one)], {"name": f"person {person}"}),
            ("identify", [("file", other)], {"threshold": "0.5"}),
            ("verify", [("a", one), ("b", other)], {"threshold": "0.5"}),
        ):
            try:
                seconds, status, found = post(port, call, files, **texts)
            except OSError as error:
                seconds, status, found = 0.0, 0, {"error": str(error)}
            done.append((call, seconds, status, found.get("error")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="campplus")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "people.sqlite"
        command = [sys.executable, "-m", "alpha_sv.cli", "serve", str(gallery), "--port", "0", "--model", a.model]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "ALPHA_SV_TOKEN": ""})
        try:
            while not (found := re.search(r"http://[^:]+:(\d+)/", line := server.stderr.readline())):
                if not line:
                    raise SystemExit("the server did not start")
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            done: list = []
            arguments = [(int(found[1]), number, a.rounds, done) for number in range(a.clients)]
            threads = [threading.Thread(target=client, args=one) for one in arguments]
            start = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            wall = time.monotonic() - start
        finally:
            server.terminate()
            server.wait()
        names = set(Gallery(gallery).names())
    wanted = {f"person {1000 * turn + number}" for number in range(a.clients) for turn in range(a.rounds)}
    print(f"{describe()}\n\n{a.model}, {a.clients} clients, {len(done)} requests in {wall:.1f} s")
    print(f"refused or failed: {sum(status != 200 for _, _, status, _ in done)}; people lost: {len(wanted - names)}\n")
    print("| call | requests | median | p95 | slowest |\n|:--|--:|--:|--:|--:|")
    for call in ("enrol", "identify", "verify"):
        times = [seconds for name, seconds, _, _ in done if name == call]
        middle, late, last = np.percentile(times, (50, 95, 100))
        print(f"| {call} | {len(times)} | {middle:.2f} s | {late:.2f} s | {last:.2f} s |")
    for error in sorted({str(error) for *_, status, error in done if status != 200}):
        print(f"error: {error}")


if __name__ == "__main__":
    main()
