"""A job that the tiny backbone of random weights can do in seconds, on clips of the drawn world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_training import tiny_folder  # noqa: F401

from datagen.job import DatagenJob
from justdub import jobs


@pytest.fixture
def tree(tiny_folder: Path, tmp_path: Path) -> dict[str, Any]:  # noqa: F811
    """Of the job, as YAML would give it."""
    return {
        "out": str(tmp_path / "out"), "clips": 2, "backbone": str(tiny_folder), "script": {"people": "world"},
        "generate": {"frames": 97, "by": "world"}, "split": {"shortest": 0.8, "recognise": False},
        "mask": {"finder": "world"}, "inpaint": {"sampling": {"steps": 1, "guidance": 1.0, "audio_guidance": 1.0}},
    }  # fmt: skip


@pytest.fixture
def job(tree: dict[str, Any]) -> DatagenJob:
    return jobs.build(DatagenJob, tree)
