"""The command line: one verb for each arrow between two files.

speech ─prepare→ manifest.csv ─train→ model/ ─extract→ embeddings/
embeddings/ ─score→ scores.txt ─normalize→ scores.txt
─calibrate→ llrs.txt ─evaluate→ metrics.json ─report→ report.html
"""

from __future__ import annotations

import _signal
import contextlib
import sys
from collections.abc import Iterator, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `alpha-sv`; returns the exit status.
    Errors of use are one line on standard error."""
    with _no_traceback():
        from alpha_sv.cli.guard import guarded
    argv = list(sys.argv[1:] if argv is None else argv)

    def run() -> int | None:
        from alpha_sv.cli.parser import run_verb  # here, so that Ctrl-C is one line from now on

        return run_verb(argv)

    return guarded(run)


@contextlib.contextmanager
def _no_traceback() -> Iterator[None]:
    """Ctrl-C ends the process by its signal, as it does before Python runs;
    `signal` itself is slow to import."""
    number, python = _signal.SIGINT, _signal.default_int_handler
    ours = _signal.getsignal(number) is python
    with contextlib.suppress(ValueError):  # not in the main thread
        ours = ours and _signal.signal(number, _signal.SIG_DFL) is python
    try:
        yield
    finally:
        if ours and _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, python)
