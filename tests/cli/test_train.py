"""`justdub train`, `train_lora.py` and `justdub data precompute` as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import clips
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import SIZE

from justdub.backbone import untrained
from justdub.backbone.checkpoint import Card
from justdub.cli.main import run
from justdub.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_MISSING, EXIT_USAGE
from justdub.lora.files import read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Path:
    """A folder with a tiny backbone, two pairs and a job."""
    folder = tmp_path_factory.mktemp("studio")
    card = Card(name="tiny", size=(64, 64), steps=1, guidance=1.0, audio_guidance=1.0)
    untrained.write(folder / "tiny", card, size=SIZE)
    for name in ("a", "b"):
        clips.make_clip(folder / f"{name}.mp4", seconds=0.4, size=(64, 64), title=name)
    entries = []
    for word, target, reference in (("Oui", "a", "b"), ("Non", "b", "a")):
        caption = f'The woman is speaking French, saying: "{word}."'
        entries.append({"caption": caption, "media_path": f"{target}.mp4", "reference_path": f"{reference}.mp4"})
    (folder / "dataset.json").write_text(json.dumps(entries))
    (folder / "job.yaml").write_text(
        f"out: {folder}/out\nbackbone: {folder}/tiny\ndata: {{list: {folder}/dataset.json}}\n"
        "adapter: {name: mine, languages: [fr]}\nlora: {rank: 2}\noptimizer: {rate: 1.0e-2}\n"
        "train: {steps: 4, batch: 1}\ncheckpoint: {every: 2}\nlog: {every: 1}\n"
    )
    return folder


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_job_becomes_an_adapter_that_dubs(studio, tmp_path, capsys):
    out = tmp_path / "out"
    code, said, _ = call(
        capsys, "train", str(studio / "job.yaml"), "--set", f"out={out}", "--set", "preview.every=4",
        "--set", "preview.from_data=1", "--json", "-q",
    )  # fmt: skip
    assert code == EXIT_DONE and json.loads(said.splitlines()[-1])["steps"] == 4
    adapter = read(out / "mine.safetensors")
    assert adapter.languages == ("fr",) and adapter.metadata.base == "tiny"
    for step in (0, 4):
        assert (out / "previews" / f"step-{step:06d}" / "00.mp4").stat().st_size > 0
        assert (out / "previews" / f"step-{step:06d}.png").read_bytes().startswith(b"\x89PNG")
    assert "rank: 2" in (out / "recipe.yaml").read_text()
    dubs = []
    for extra in ([], ["--adapter", str(out / "mine.safetensors")]):
        path = tmp_path / f"dub{len(dubs)}.mp4"
        arguments = ["dub", "-i", str(studio / "a.mp4"), "-o", str(path), "--text", "Oui", "-l", "fr", "-q", *extra]
        code, _, said = call(capsys, *arguments, "--backbone", str(studio / "tiny"))
        assert code == EXIT_DONE, said
        dubs.append(path.read_bytes())
    assert dubs[0] != dubs[1]


def test_a_base_in_eight_bits_teaches_nearly_the_same(studio, tmp_path, capsys):
    losses = {}
    for stored in ("none", "fp8"):
        out = tmp_path / stored
        changes = ("--set", f"out={out}", "--set", f"train.quantization={stored}")
        assert call(capsys, "train", str(studio / "job.yaml"), *changes, "-q")[0] == EXIT_DONE
        losses[stored] = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
        assert len(read(out / "mine.safetensors").modules) == 2 * 28
    assert losses["fp8"] == pytest.approx(losses["none"], rel=0.05) and losses["fp8"] != losses["none"]
    code, _, said = call(capsys, "train", str(studio / "job.yaml"), "--set", f"out={out}", "-q")
    assert code == EXIT_USAGE and "holds a run already; try: --resume auto" in said


def test_the_plan_is_printed_and_nothing_is_written(studio, tmp_path, capsys):
    code, said, _ = call(
        capsys, "train", str(studio / "job.yaml"), "--set", f"out={tmp_path / 'out'}", "--dry-run", "-q"
    )
    assert code == EXIT_DONE and "2 usable" in said and "cross-modal attention" in said
    assert not (tmp_path / "out").exists()


def test_killed_anywhere_it_goes_on_bit_for_bit(studio, tmp_path):
    """Uninterrupted, against killed with SIGKILL twice and resumed."""

    def start(out: Path, *more: str) -> subprocess.Popen:
        command = [
            sys.executable, str(ROOT / "train_lora.py"), str(studio / "job.yaml"), "--set", f"out={out}",
            "--set", "train.steps=12", "--set", "checkpoint.every=1", "--set", "lora.dropout=0.2", *more,
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, cwd=ROOT)

    assert start(tmp_path / "whole").wait(timeout=200) == EXIT_DONE
    out = tmp_path / "killed"
    for step in (2, 6):
        process = start(out, "--resume", "auto")
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline:
            log = out / "log.jsonl"
            if log.exists() and len(log.read_text().splitlines()) >= step:
                break
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert start(out, "--resume", "auto").wait(timeout=200) == EXIT_DONE
    names = "checkpoints/step-000012/parameters.safetensors"
    whole, killed = load_file(tmp_path / "whole" / names), load_file(out / names)
    assert whole.keys() == killed.keys() and all(torch.equal(whole[name], killed[name]) for name in whole)
    logs = [[json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
            for name in ("whole", "killed")]  # fmt: skip
    assert logs[0] == logs[1] and len(logs[0]) == 12


def test_a_polite_request_saves_and_says_how_to_go_on(studio, tmp_path):
    command = [
        sys.executable, str(ROOT / "train_lora.py"), str(studio / "job.yaml"), "--set", f"out={tmp_path / 'out'}",
        "--set", "train.steps=100000", "--set", "checkpoint.every=100000",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while not (tmp_path / "out" / "log.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED
    assert said.strip().splitlines()[-1].startswith("justdub: error: stopped after step") and "--resume auto" in said
    assert len(list((tmp_path / "out" / "checkpoints").glob("step-*/run.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{job}", "--set", "lora.rnak=3"], EXIT_USAGE, "unknown key lora.rnak"),
        (["{job}", "--set", "rules.reference=none"], EXIT_USAGE, "bidirectional or isolated"),
        (["{job}", "--set", "backbone=nowhere"], EXIT_MISSING, "no backbone at nowhere"),
        (["{job}", "--set", "data.list=nowhere.json"], EXIT_MISSING, "no dataset at nowhere.json"),
        (["{job}", "--resume", "nowhere"], EXIT_MISSING, "no state of a run in nowhere"),
        (["{job}", "--set", "data.buckets=[64x64x16]"], EXIT_USAGE, "64x64x17"),
        (["{job}", "--set", "optimizer.name=adamw8bit"], EXIT_MISSING, "bitsandbytes"),
        (["nowhere.yaml"], EXIT_USAGE, "no file nowhere.yaml"),
        (["{folder}/dataset.json"], EXIT_BAD_INPUT, "holds no keys and values"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(studio, tmp_path, capsys, arguments, code, said):
    filled = [text.format(job=studio / "job.yaml", folder=studio) for text in arguments]
    found, _, error = call(capsys, "train", *filled, "--set", f"out={tmp_path / 'out'}", "-q")
    lines = [line for line in error.splitlines() if line.startswith("justdub: error:")]
    assert found == code and len(lines) == 1 and said in lines[0]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_data_is_encoded_beforehand(studio, tmp_path, capsys):
    arguments = ["data", "precompute", str(studio / "dataset.json"), "--cache", str(tmp_path), "-q"]
    code, said, _ = call(capsys, *arguments, "--backbone", str(studio / "tiny"))
    assert code == EXIT_DONE and "2 pairs, 0 left out" in said
    assert len(list((tmp_path / "samples").rglob("*.safetensors"))) == 2
    assert len(list((tmp_path / "texts").rglob("*.safetensors"))) == 3, "two prompts and the empty one"
    code, _, said = call(capsys, "data", "precompute", "nowhere.json")
    assert code == EXIT_MISSING and "no dataset at nowhere.json" in said
