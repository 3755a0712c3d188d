"""What the program foretells of a run's memory, to be compared with the peak."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.ltx2.run import Run
from benchmarks.ltx2.scale import MEL_BINS, Resolution
from justdub.backbone.count import Blueprint, Shape
from justdub.lora import inject
from justdub.sequence import Layout, SequenceRules
from justdub.training.plan import activation_bytes

ADAM_COPIES = 4  # of every trained number, float32: itself, its gradient and two means


class StepEstimates:
    """Of one denoising step, by the counter behind `--memory` (`justdub.backbone.count`)."""

    def __init__(self, run: Run, module: Any) -> None:
        self.run = run
        self.weights = stored_bytes(module)
        self.config = dict(module.config)

    def bytes(self, rules: SequenceRules, *, cached: bool = False) -> int:
        """Weights, the pass, and the cache where there is one."""
        with blueprint(self.config) as plan:
            passing, cache = plan.denoising(
                shape(self.run.resolution), rules, cached=cached, text_tokens=self.run.scale.text_tokens
            )
        return self.weights + passing + cache


def update_bytes(module: Any, name: str, layout: Layout, *, checkpointing: bool) -> int:
    """Of one training step, by the counter behind `justdub train --dry-run`."""
    trained = sum(parameter.numel() for _, parameter in inject.trained(module, name))
    kept = activation_bytes(module.config, layout.video.target, layout.audio.target, 1, 2, checkpointing)
    frozen = stored_bytes(module) - 4 * trained
    return frozen + 4 * ADAM_COPIES * trained + kept


def stored_bytes(module: Any) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def shape(resolution: Resolution) -> Shape:
    return Shape(resolution.frames, resolution.width, resolution.height)


@contextmanager
def blueprint(config: dict[str, Any]) -> Iterator[Blueprint]:
    """Of a folder that holds no more than the configs that a step is counted from."""
    with tempfile.TemporaryDirectory() as folder:
        said = {
            "transformer": config | {"_class_name": "LTX2VideoTransformer3DModel"},
            "audio_vae": {"_class_name": "AutoencoderKLLTX2Audio", "mel_bins": 4 * MEL_BINS},
        }
        for part, values in said.items():
            path = Path(folder) / part / "config.json"
            path.parent.mkdir()
            path.write_text(json.dumps(values), encoding="utf-8")
        yield Blueprint(Path(folder), dtype=torch.bfloat16)
