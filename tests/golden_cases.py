"""Run the golden cases of a folder and say how far each number is off (`python tests/golden_cases.py DIR` prints JSON).

The format of a case is tests/golden/README.md. `tests/test_golden.py` calls this twice: in its own process, and in a
child with one fixed set of kernels. The transformer turns sigma * 1000 into sines and cosines through
float32 `exp`, and MKL's exp differs in the last bit between processors (measured: up to 4.5e-5 in the velocities on an
AVX-512 machine against the machine that wrote the numbers, 5.8e-6 with the fixed kernels).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from justdub import flow
from justdub.backbone.official import load_transformer
from justdub.backbone.text import TextContext
from justdub.backbone.transformer import JointTransformer
from justdub.sequence import SequenceRules, plan_sequence
from justdub.tokens import Geometry
from justdub.training.loss import LossWeights, dubbing_loss


@dataclass(frozen=True)
class Error:
    """Largest absolute difference of one number of a case, and the largest magnitude that it has there."""

    key: str
    error: float
    magnitude: float


def read_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def case_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.safetensors")) if "config" not in read_metadata(path)]


@cache
def transformer(folder: Path) -> JointTransformer:
    (weights,) = (path for path in sorted(folder.glob("*.safetensors")) if "config" in read_metadata(path))
    return JointTransformer(load_transformer(weights))


def run_case(path: Path, *, checkpointing: bool = False) -> list[Error]:
    """All numbers of one case, computed by the code that training and inference use."""
    case, meta, model = load_file(path), read_metadata(path), transformer(path.parent)
    plan = plan_sequence(
        video_target_BCFHW=case["in.video_target"],
        audio_target_BCTM=case["in.audio_target"],
        video_reference_BCFHW=case["in.video_reference"],
        audio_reference_BCTM=case["in.audio_reference"],
        frame_rate=Fraction(meta["fps"]),
        geometry=Geometry.from_config(model.module.config),
        rules=SequenceRules(cross_modal=meta["cross_modal"], keep_first_frame=meta["first_frame"] == "kept"),
    )
    sigma_B, noise_v, noise_a = case["in.sigma"], case["in.video_noise"], case["in.audio_noise"]
    video_BNC = flow.mix(plan.video.clean_BNC, noise_v, plan.video.target_sigmas(sigma_B))
    audio_BNC = flow.mix(plan.audio.clean_BNC, noise_a, plan.audio.target_sigmas(sigma_B))
    sequence = plan.at(video_BNC, audio_BNC, sigma_B, sigma_B)
    if checkpointing:
        model.enable_gradient_checkpointing()
    else:
        model.module.disable_gradient_checkpointing()
    out = model.velocity(sequence, TextContext(case["in.video_text"], case["in.audio_text"], case["in.text_mask"]))
    target = out.target(sequence)
    loss = dubbing_loss(
        video_predicted_BNC=target.video_BNC,
        video_true_BNC=flow.velocity(plan.video.clean_BNC, noise_v),
        audio_predicted_BNC=target.audio_BNC,
        audio_true_BNC=flow.velocity(plan.audio.clean_BNC, noise_a),
        kept_BN=plan.video.kept_BN,
        face_mask_BFHW=case["in.face_mask"] if meta["loss"] == "foreground" else None,
        weights=LossWeights(
            float(meta["foreground_weight"]), float(meta["background_weight"]), float(meta["mask_threshold"])
        ),
    )
    found = {
        "mid.video_tokens": sequence.video.tokens_BNC,
        "mid.audio_tokens": sequence.audio.tokens_BNC,
        "mid.video_timesteps": sequence.video.timesteps_BN,
        "mid.audio_timesteps": sequence.audio.timesteps_BN,
        "mid.video_positions": sequence.video.positions_BDN2,
        "mid.audio_positions": sequence.audio.positions_BDN2,
        "out.video_velocity": out.video_BNC,
        "out.audio_velocity": out.audio_BNC,
        "out.loss": loss[None],
    }
    errors = []
    for key, value in found.items():
        if value.shape != case[key].shape:
            raise ValueError(f"{path.name}: {key} has shape {tuple(value.shape)}, expected {tuple(case[key].shape)}")
        gap = (value.double() - case[key].double()).abs().max().item()
        errors.append(Error(key, float("inf") if gap != gap else gap, case[key].abs().max().item()))
    return errors


if __name__ == "__main__":
    result = {p.stem: [e.__dict__ for e in run_case(p)] for p in case_files(Path(sys.argv[1]))}
    sys.stdout.write(json.dumps(result))
