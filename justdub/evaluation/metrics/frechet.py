"""Frechet distance of two clouds of features, each taken as a Gaussian (Dowson, Landau 1982; Heusel et al. 2017).

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). The trace of the root is the nuclear norm of X1c X2c^T for centred
features, which needs no matrix root and is exact for fewer samples than dimensions too.

Legend: N samples, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.metric import Better, SetMetric
from justdub.evaluation.sample import Sample


def frechet(one_ND: np.ndarray, other_ND: np.ndarray) -> float:
    """Squared distance, 0 or more.

    Raises:
        BadInputError: fewer than two samples, other dimensions, or values that are no numbers.
    """
    one, other = np.asarray(one_ND, np.float64), np.asarray(other_ND, np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise BadInputError(
            f"features of shapes {one.shape} and {other.shape}", expected="two or more rows of one width"
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise BadInputError("the features hold values that are no numbers (NaN or infinite)")
    mean, mean2 = one.mean(0), other.mean(0)
    x, y = (one - mean) / np.sqrt(len(one) - 1), (other - mean2) / np.sqrt(len(other) - 1)
    if min(len(x), len(y)) > x.shape[1]:  # the roots of both covariances are smaller than the data
        x, y = np.linalg.qr(x, mode="r"), np.linalg.qr(y, mode="r")
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    distance = ((mean - mean2) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2 * root
    return float(max(distance, 0.0))


def _supplied(samples: Sequence[Sample]) -> float:
    """Of .npy files of the user's, one per clip, in folders for source and dub."""
    folders = samples[0].tools.features if samples else None
    if not folders:
        raise MissingError("needs features of yours", remedy="--features SOURCE_DIR DUBBED_DIR (one .npy per clip)")
    return frechet(*(np.concatenate([_rows(Path(folder), s.name) for s in samples]) for folder in folders))


def _rows(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path} cannot be read: {str(error).splitlines()[0]}", expected="a .npy array") from error
    rows_ND = np.atleast_2d(np.asarray(rows, np.float64))
    if not np.isfinite(rows_ND).all():
        raise BadInputError(f"{path}: values that are no numbers (NaN or infinite)")
    return rows_ND


METRICS = (
    SetMetric("frechet", "Frechet distance of your features", "", Better.LOWER, "features of yours as .npy",
              "Heusel et al. 2017's formula on features that the user supplies.", _supplied),
)  # fmt: skip
