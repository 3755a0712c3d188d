"""The reference implementation's numbers, to 1e-5: `JUSTDUB_GOLDEN=DIR python -m pytest tests/test_golden.py -s`.

Every case file in DIR (default: tests/golden) is run, whatever it is called; the format is that folder's README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import golden_cases
import pytest
from golden_cases import Error

TOLERANCE = 1e-5
FOLDER = Path(os.environ.get("JUSTDUB_GOLDEN") or Path(__file__).parent / "golden").resolve()
CASES = golden_cases.case_files(FOLDER)


@pytest.fixture(scope="module")
def with_fixed_kernels() -> dict[str, list[Error]]:
    """All cases in a child process whose kernels are the same on every processor (see golden_cases.py)."""
    command = [sys.executable, golden_cases.__file__, str(FOLDER)]
    environment = os.environ | {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: [Error(**e) for e in errors] for name, errors in json.loads(done.stdout).items()}


def report(name: str, how: str, errors: list[Error]) -> Error:
    worst = max(errors, key=lambda e: e.error)
    print(f"\n{name:24s} {how:28s} largest error {worst.error:.2e} ({worst.key})", end="")
    return worst


def test_the_folder_holds_cases() -> None:
    assert CASES, f"no case file in {FOLDER}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case_matches_the_reference(path: Path, with_fixed_kernels: dict[str, list[Error]]) -> None:
    errors = with_fixed_kernels[path.stem]
    assert {e.key.split(".")[0] for e in errors} == {"mid", "out"}
    assert report(path.stem, "", errors).error <= TOLERANCE


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case_on_this_machines_kernels(path: Path, checkpointing: bool) -> None:
    """In this process, where `exp` may differ in its last bit: 1e-5 of the largest value of each number."""
    errors = golden_cases.run_case(path, checkpointing=checkpointing)
    report(path.stem, "this machine's kernels" + (", ckpt" if checkpointing else ""), errors)
    for e in errors:
        assert e.error <= TOLERANCE * max(1.0, e.magnitude), e
