"""The command line itself: help without heavy imports, the thin entry points, exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import clips
import pytest

from justdub.cli.main import VERBS, run
from justdub.errors import EXIT_INTERRUPTED, EXIT_USAGE

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "diffusers", "transformers", "numpy", "av", "decord", "ffmpeg", "tqdm", "safetensors"}


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom justdub.cli.main import run\n"
        f"try: run({arguments!r})\nexcept SystemExit: pass\n"
        f"sys.stderr.write(' '.join(sorted(set(sys.modules) & {HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout
    assert "exit codes" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("script", ["infer.py", "train_lora.py"])
def test_entry_points_are_the_verbs(script: str) -> None:
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {script}")


def test_module_and_version() -> None:
    done = subprocess.run([sys.executable, "-m", "justdub", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("justdub 0.")


def test_a_process_ends_with_the_documented_code() -> None:
    done = subprocess.run([sys.executable, ROOT / "infer.py", "--bogus"], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USAGE
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == EXIT_USAGE
    assert "justdub --help" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_writing_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """Sent as soon as the writer's first hidden file is there; the clip is large enough for that to take a while."""
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=10, size=(1280, 720), audio=None)
    command = [sys.executable, ROOT / "infer.py", "-i", clip, "-o", tmp_path / "out.mp4", "--text", "Hallo", "-l", "de"]
    command += ["--steps", "1", "--guidance", "1", "--audio-guidance", "1", "-q"]
    # A suite that runs in the background ignores Ctrl-C, and its children would too.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.glob(".justdub-*picture*")):
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, error
    assert error.splitlines()[-1].startswith("justdub: error: interrupted")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
