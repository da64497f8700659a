"""What a benchmark ran on, for the head of every table, and how much memory it took.

A time means nothing without it. `python benchmarks/hardware.py` prints the line for this machine.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np
import threadpoolctl


def describe() -> str:
    """CPU, cores this process may use, memory, accelerator,
    versions and BLAS threads, as one line of Markdown."""
    import torch  # here, so that a process that only wants peak_mb stays small

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_cpu_model()}, {cores} cores used"]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB RAM")
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"Python {platform.python_version()}", f"torch {torch.__version__}", f"numpy {np.__version__}"]
    blas = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    parts.append(
        f"{'/'.join(map(str, sorted(blas))) or 'unknown'} BLAS threads, {torch.get_num_threads()} torch threads"
    )
    return "Measured on: " + "; ".join(parts) + "."


def peak_mb() -> float:
    """Largest resident memory of this process so far,
    in MB (10^6 bytes), pages of memory maps included.

    Linux only. `resource.getrusage` would do elsewhere,
    but there a child process starts with its parent's peak.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e6


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    print(describe())
