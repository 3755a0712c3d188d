"""`justdub doctor`: what works here, what would fit, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import models
import pytest

from justdub.backbone import memory
from justdub.cli.main import run
from justdub.errors import EXIT_DONE, EXIT_MISSING, EXIT_USAGE

CPU = ["--device", "cpu", "--dtype", "float32"]


def test_a_machine_that_can_dub(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--frames", "25", *CPU]) == EXIT_DONE
    out = capsys.readouterr().out
    for title in ("versions", "machine", "optional packages", "attention kernels on cpu", "adapters", "backbone"):
        assert title in out
    assert "a dub of 96x96x25" in out and "--memory 24" in out


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json", "--frames", "9", "--two-stage", "--size", "128x128", *CPU]) == EXIT_DONE
    found = json.loads(capsys.readouterr().out)
    assert found["attention kernels on cpu in float32"]["native"] == "works"
    assert found["attention kernels on cpu in float32"]["flash3"].startswith("no: ")
    assert any(title.startswith("a dub of 128x128x9") for title in found)
    assert found["faults"] == []


def test_configs_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before 70 GB are fetched."""
    ignore = shutil.ignore_patterns("*.safetensors", "*.md")
    folder = shutil.copytree(models.mini_folder(), tmp_path / "configs", ignore=ignore)
    assert run(["doctor", "-b", str(folder), "--frames", "9", *CPU]) == EXIT_DONE
    assert "a dub of 96x96x9" in capsys.readouterr().out


def test_what_is_missing_is_said_with_its_code(tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(["doctor", "-b", str(tmp_path / "nothing"), *CPU]) == EXIT_MISSING
    captured = capsys.readouterr()
    assert "versions" in captured.out and "no backbone at" in captured.err
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    assert run(["doctor", "--frames", "9", *CPU]) == EXIT_MISSING
    assert "does not fit into 1 MiB" in capsys.readouterr().err
    assert run(["doctor", "--frames", "0", *CPU]) == EXIT_USAGE
