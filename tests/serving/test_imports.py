"""Workers and serving run without the training libraries: importing them pulls in neither torch nor pandas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import serving

ROOT = Path(serving.__file__).parents[1]
API = sorted(f"serving.{path.stem}" for path in (ROOT / "serving").glob("api*.py"))
MODULES = [
    "infra.cli",
    "streams.cli",
    "streams.agents",
    "streams.worker",
    "serving.cli",
    "serving.agents",
    "serving.golden",
    *API,
]
FORBIDDEN = ("torch", "pandas", "onnx", "offline")
PROBE = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
found = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    found[name] = sorted({m.split(".")[0] for m in sys.modules})
print(json.dumps(found))
"""


def packages_after(modules: list[str]) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_workers_and_serving_import_no_training_library() -> None:
    assert len(API) >= 2
    found = packages_after(MODULES)
    assert set(found) == set(MODULES)
    heavy = {name: sorted(set(FORBIDDEN) & set(packages)) for name, packages in found.items()}
    assert heavy == {name: [] for name in MODULES}
    assert "onnxruntime" in found["serving.golden"]  # the probe does see what is loaded


def test_the_umbrella_command_imports_nothing_above_infra() -> None:
    (found,) = packages_after(["infra.cli"]).values()
    assert not {"streams", "serving", "offline", "faust", "fastapi", "faiss"} & set(found)
