"""The leak probe: what the latents that stay still tell of the lips that were there.

A linear model (ridge regression) predicts how far the true lips are open in each latent frame from the latents that a
mask leaves, on clips that it was not fitted to. 0 is chance; what it explains is what a model could copy.

Legend: N latent frames of all clips, C channels, f/h/w video latents' grid, D features, K folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from datagen import mask
from datagen.job import DatagenJob
from datagen.tools import Film, Tools

_FOLDS = 5
_PENALTIES = (1e1, 1e2, 1e3, 1e4)
_KEPT = 400  # principal directions of the features


def run(job: DatagenJob, clips: int, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Probe clips of the drawn world, whose lips are known.

    Returns:
        For "nothing masked", "box mask" and "fine mask": the share of the variance of the lips' opening that the probe
        explains on held-out clips (R squared), and the share of the latents that is masked.
    """
    from datagen.world import World

    tools = Tools(job)
    codec, geometry = tools.pipe.backbone.video_codec, tools.geometry
    world, batch = World(frame_rate=job.generate.frame_rate), 8
    features: dict[str, list[np.ndarray]] = {"nothing masked": [], "box mask": [], "fine mask": []}
    shares: dict[str, list[float]] = {name: [] for name in features}
    openings, groups, done, number = [], [], 0, 0
    while done < clips:
        chosen = [n for n in range(number, number + batch) if world.plan(n, job.script.split).scene_type == "dialogue"]
        number += batch
        for clip in (world.batch(chosen, job.script.split)[place] for place in range(len(chosen))):
            if done == clips:
                break
            film = Film(clip.frames, clip.samples, world.frame_rate)
            area_FHW = mask.area(tools.finder.find(film.frames), film, job.mask)
            latents_Cfhw = codec.encode(film.frames)[0].cpu()
            masks = {
                "nothing masked": torch.zeros(latents_Cfhw.shape[1:], dtype=torch.bool),
                "box mask": mask.box(area_FHW, geometry),
                "fine mask": mask.fine(codec, film.frames, area_FHW, job.mask.threshold),
            }
            for name, cells_fhw in masks.items():
                kept = torch.where(cells_fhw, torch.zeros(()), latents_Cfhw)
                features[name].append(kept.transpose(0, 1).flatten(1).numpy())
                shares[name].append(float(cells_fhw.float().mean()))
            openings.append(_by_latent(clip.take.mouth.opening_F, geometry.frames_per_latent))
            groups.append(np.full(len(openings[-1]), done))
            done += 1
            progress("probe", done, clips)
    target_N, group_N = np.concatenate(openings), np.concatenate(groups)
    return {
        name: {
            "explained": round(explained(np.concatenate(parts), target_N, group_N), 4),
            "masked": round(float(np.mean(shares[name])), 4),
        }
        for name, parts in features.items()
    } | {"clips": clips, "latent_frames": len(target_N), "threshold": job.mask.threshold}


def _by_latent(values_F: np.ndarray, ratio: int) -> np.ndarray:
    """The mean over the frames that each latent stands for."""
    return np.concatenate((values_F[:1], values_F[1:].reshape(-1, ratio).mean(1)))


def explained(features_ND: np.ndarray, target_N: np.ndarray, group_N: np.ndarray) -> float:
    """R squared of ridge regression over held-out groups, with the best of a few penalties; below 0: worse than the
    mean.
    """
    fold_N = group_N % _FOLDS
    best = -np.inf
    errors = dict.fromkeys(_PENALTIES, 0.0)
    for fold in range(_FOLDS):
        fit, held = fold_N != fold, fold_N == fold
        middle_D = features_ND[fit].mean(0)
        _, spread, directions = np.linalg.svd(features_ND[fit] - middle_D, full_matrices=False)
        basis_DK = directions[:_KEPT].T
        inputs, level = (features_ND - middle_D) @ basis_DK, target_N[fit].mean()
        squares = spread[:_KEPT] ** 2
        product = inputs[fit].T @ (target_N[fit] - level)
        for penalty in _PENALTIES:
            found = inputs[held] @ (product / (squares + penalty)) + level
            errors[penalty] += float(((found - target_N[held]) ** 2).sum())
    total = float(((target_N - target_N.mean()) ** 2).sum())
    best = max(1 - error / total for error in errors.values())
    return best
