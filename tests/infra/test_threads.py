"""A serving process computes on one thread, unless whoever starts it says otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, threading
import numpy
from infra.threads import one_thread
one_thread()
import faiss
from threadpoolctl import threadpool_info
found = []
def look():
    numpy.ones((64, 64)) @ numpy.ones((64, 64))
    found.extend([faiss.omp_get_max_threads(), *(pool["num_threads"] for pool in threadpool_info())])
look()
thread = threading.Thread(target=look)
thread.start()
thread.join()
print(json.dumps(found))
"""


@pytest.mark.parametrize(("given", "expected"), [(None, 1), ("3", 3)])
def test_blas_and_openmp_use_the_threads_they_are_allowed(given: str | None, expected: int) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    env = clean if given is None else clean | {"OMP_NUM_THREADS": given}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    threads = set(json.loads(done.stdout))
    # OpenBLAS takes no more threads than there are cores.
    assert threads <= {expected, min(expected, os.cpu_count() or 1)}, threads


def test_waiting_threads_get_their_turn_ten_times_sooner() -> None:
    script = "import sys; from infra.threads import take_turns; take_turns(); print(sys.getswitchinterval())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(0.0005)
