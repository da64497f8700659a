"""`make torture`: everything that may go wrong around a command,
tried; the figures go to docs/reliability.md."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    from tests.torture.runner import build

    folder = Path(os.environ.setdefault("TORTURE", "results/torture")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    library = os.fspath(build(folder))
    if os.environ.get("LD_PRELOAD") != library:  # this process is what the others are copied from
        settings = {"LD_PRELOAD": library, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TORTURE": os.fspath(folder)}
        os.execve(sys.executable, [sys.executable, "-m", "tests.torture", *sys.argv[1:]], {**os.environ, **settings})
    from tests.torture.main import main

    sys.exit(main(sys.argv[1:], folder))
