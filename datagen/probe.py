"""The leak probe: what the latents that stay still tell of the lips that were there.

A linear model (ridge regression) predicts how far the true lips are open in each latent frame from the latents that a
mask leaves, on clips that it was not fitted to. 0 is chance; what it explains is what a model could copy.

A mask follows the lips, too: `shape` is what is explained by which latents are masked, without any of them.

Legend: N latent frames of all clips, C channels, f/h/w video latents' grid, D features, K directions kept, P penalties,
G clips, R drawings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from datagen import mask
from datagen.job import DatagenJob
from datagen.tools import Film, Tools

# The last one is the fine mask of all frames in each of them, whose shape says nothing of when the lips are open.
MASKS = ("nothing masked", "box mask", "fine mask", "fine mask, held")
_FOLDS = 5
_PENALTIES = (1e1, 1e2, 1e3, 1e4)
_KEPT = 400  # principal directions of the features
_DRAWS = 500  # of clips, for the standard error


def run(job: DatagenJob, clips: int, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Probe clips of the drawn world, whose lips are known.

    Returns:
        For each of `MASKS`: the share of the variance of the lips' opening that the probe
        explains on held-out clips (R squared) with its standard error, the same from the mask's shape alone, and the
        share of the latents that is masked.
    """
    from datagen.world import World

    tools = Tools(job)
    codec, geometry = tools.pipe.backbone.video_codec, tools.geometry
    world, batch = World(frame_rate=job.generate.frame_rate), 8
    features: dict[str, list[np.ndarray]] = {name: [] for name in MASKS}
    shapes: dict[str, list[np.ndarray]] = {name: [] for name in features}
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
            fine_fhw = mask.fine(codec, film.frames, area_FHW, job.mask.threshold)
            box_fhw, none_fhw = mask.box(area_FHW, geometry), torch.zeros_like(fine_fhw)
            still_fhw = fine_fhw.any(0).expand_as(fine_fhw)
            for name, cells_fhw in zip(MASKS, (none_fhw, box_fhw, fine_fhw, still_fhw), strict=True):
                kept = torch.where(cells_fhw, torch.zeros(()), latents_Cfhw)
                features[name].append(kept.transpose(0, 1).flatten(1).numpy())
                shapes[name].append(cells_fhw.flatten(1).numpy())
            openings.append(_by_latent(clip.take.mouth.opening_F, geometry.frames_per_latent))
            groups.append(np.full(len(openings[-1]), done))
            done += 1
            progress("probe", done, clips)
    target_N, group_N = np.concatenate(openings), np.concatenate(groups)
    found: dict[str, Any] = {"clips": clips, "latent_frames": len(target_N), "threshold": job.mask.threshold}
    for name, parts in features.items():
        shape_ND, total = np.concatenate(shapes[name]), _around_mean(target_N).sum()
        errors_N = squares(np.concatenate(parts), target_N, group_N)
        found[name] = {
            "explained": round(1 - float(errors_N.sum() / total), 4),
            "error": round(doubt(errors_N, target_N, group_N), 4),
            "shape": round(explained(shape_ND, target_N, group_N), 4),
            "masked": round(float(shape_ND.mean()), 4),
        }
    return found


def _by_latent(values_F: np.ndarray, ratio: int) -> np.ndarray:
    """The mean over the frames that each latent stands for."""
    return np.concatenate((values_F[:1], values_F[1:].reshape(-1, ratio).mean(1)))


def explained(features_ND: np.ndarray, target_N: np.ndarray, group_N: np.ndarray) -> float:
    """R squared of ridge regression over held-out groups, with the best of a few penalties; below 0: worse than the
    mean.
    """
    return 1 - float(squares(features_ND, target_N, group_N).sum() / _around_mean(target_N).sum())


def doubt(squares_N: np.ndarray, target_N: np.ndarray, group_N: np.ndarray) -> float:
    """Standard error of R squared: its spread over clips drawn again with replacement."""
    error_G = np.bincount(group_N, squares_N)
    total_G = np.bincount(group_N, _around_mean(target_N))
    drawn_RG = np.random.default_rng(0).integers(len(error_G), size=(_DRAWS, len(error_G)))
    return float((1 - error_G[drawn_RG].sum(1) / total_G[drawn_RG].sum(1)).std())


def squares(features_ND: np.ndarray, target_N: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """Squared errors of ridge regression (N,), each predicted from other groups, with the best of a few penalties."""
    fold_N, features_ND = group_N % _FOLDS, features_ND.astype(np.float64)
    error_PN = np.zeros((len(_PENALTIES), len(target_N)))
    for fold in range(_FOLDS):
        fit, held = fold_N != fold, fold_N == fold
        inputs_ND = features_ND - features_ND[fit].mean(0)
        level = target_N[fit].mean()
        power_D, directions_DD = np.linalg.eigh(inputs_ND[fit].T @ inputs_ND[fit])
        basis_DK, power_K = directions_DD[:, -_KEPT:], power_D[-_KEPT:]
        inputs_NK = inputs_ND @ basis_DK
        product_K = inputs_NK[fit].T @ (target_N[fit] - level)
        for place, penalty in enumerate(_PENALTIES):
            found = inputs_NK[held] @ (product_K / (power_K + penalty)) + level
            error_PN[place, held] = (found - target_N[held]) ** 2
    return error_PN[error_PN.sum(1).argmin()]


def _around_mean(target_N: np.ndarray) -> np.ndarray:
    return (target_N - target_N.mean()) ** 2
