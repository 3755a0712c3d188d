"""Every command of docs/ltx2.md: parsed, and dubs planned to the end on small files of the same layouts."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import clips
import official_files
import pytest
import torch
from safetensors.torch import save_file

from justdub.cli.main import build_parser, run
from justdub.errors import EXIT_DONE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "ltx2.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]
DUBS = [command for command in COMMANDS if "infer.py" in command]


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`models/` and a clip, with the names that the page uses."""
    root = tmp_path_factory.mktemp("docs")
    folder = root / "models"
    folder.mkdir()
    for generation, name in (("2.0", "ltx-2-19b-dev"), ("2.3", "ltx-2.3-22b-distilled")):
        (root / generation).mkdir()
        written = official_files.write(root / generation, generation)
        written.path.rename(folder / f"{name}.safetensors")
    shutil.move(root / "2.3" / "gemma", folder / "gemma-3-12b")
    factors = {"diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(2, 32),
               "diffusion_model.transformer_blocks.0.attn1.to_q.lora_B.weight": torch.zeros(32, 2)}  # fmt: skip
    for name in ("ltx-2-19b-ic-lora-lipdubbing", "ltx-2-19b-distilled-lora-384", "lipdub"):
        save_file(factors, folder / f"{name}.safetensors")
    for name in ("ltx-2-spatial-upscaler-x2-1.0", "ltx-2.3-spatial-upscaler-x2-1.0"):
        save_file({"x": torch.zeros(1)}, folder / f"{name}.safetensors")
    clips.make_clip(root / "clip.mp4", seconds=0.36)
    return root


def test_the_page_has_what_it_promises() -> None:
    assert len(DUBS) == 10
    for tier in ("80", "48", "24"):
        for profile in ("justdubit", "lipdub"):
            assert any(f"--memory {tier}" in (said := " ".join(c)) and f"--profile {profile}" in said for c in DUBS)
    assert {Path(c[0]).name for c in COMMANDS} == {"justdub", "python", "torchrun", "accelerate"}


@pytest.mark.parametrize("number", range(len(DUBS)))
def test_every_dub_can_be_planned(number: int, models_folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(models_folder)
    command = DUBS[number]
    arguments = command[command.index("infer.py") + 1 :]
    if "--parallel" in arguments:
        arguments.remove("--parallel")
    assert run([*arguments, "--dry-run", "--device", "cpu"], only="dub") == EXIT_DONE
    out = capsys.readouterr().out
    two = "--two-stage" in arguments
    assert ("stage 2" in out) == two

    passes = ("60 passes", "2 passes") if "justdubit" in arguments else ("8 passes", "3 passes")
    assert all(said in out for said in (passes if two else passes[:1]))
    rule = "cross-modal target_only" if "justdubit" in arguments else "cross-modal full"
    assert rule in out
    assert not (models_folder / "dubbed.mp4").exists()


def test_every_other_command_is_understood() -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    for command in COMMANDS:
        if command[0] == "justdub":
            build_parser().parse_args(command[1:])
        elif command[0] == "accelerate":
            found = launch_command_parser().parse_args(command[2:])
            config = load_config_from_file(str(ROOT / found.config_file))
            assert config.num_processes == 8 and (ROOT / found.training_script).is_file()
            assert str(config.distributed_type) in ("DistributedType.MULTI_GPU", "DistributedType.FSDP")
            build_parser("train_lora.py", only="train").parse_args(found.training_script_args)
        elif command[1] == "train_lora.py":
            build_parser("train_lora.py", only="train").parse_args(command[2:])


def test_training_jobs_are_valid() -> None:
    from justdub.training.foreign import load_job

    for command in COMMANDS:
        if "train_lora.py" in command:
            arguments = build_parser(only="train").parse_args(command[command.index("train_lora.py") + 1 :])
            job, _ = load_job(ROOT / arguments.config, arguments.set)
            assert str(job.backbone) == "models/LTX-2"
