"""Metrics of pictures on cases whose answer is known, and against other implementations where they are installed."""

from __future__ import annotations

import numpy as np
import pytest

from justdub.evaluation.metrics import flicker, psnr, ssim


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def smooth(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Grey pictures with structure at every scale, float32 FHW 0..255."""
    from scipy.ndimage import gaussian_filter

    rough = np.random.default_rng(seed).normal(size=(frames, height, width))
    layers = sum(s * gaussian_filter(rough, (0, s, s)) for s in (1, 2, 4, 8))
    return (255 * (layers - layers.min()) / np.ptp(layers)).astype(np.float32)


@pytest.mark.parametrize("change", [1, 5, 20])
def test_psnr_of_a_known_error(change: int) -> None:
    picture = noise((2, 20, 30, 3)) // 2
    error = psnr.squared_error(picture, picture + np.uint8(change)).mean()
    assert error == pytest.approx(change**2)
    assert psnr.decibels(error) == pytest.approx(20 * np.log10(255 / change))


def test_identical_pictures_get_the_best_of_everything() -> None:
    colour, grey = noise((3, 176, 200, 3)), smooth(3, 176, 200)
    assert psnr.decibels(psnr.squared_error(colour, colour).mean()) == psnr.CEILING
    one, five = ssim.similarities(grey, grey)
    assert one == pytest.approx(np.ones(3))
    assert five == pytest.approx(np.ones(3))
    assert flicker.flicker(grey, grey).max() == 0


def test_what_happens_in_the_face_does_not_count() -> None:
    source, grey = noise((2, 64, 64, 3)), smooth(2, 64, 64)
    face = np.zeros((2, 64, 64), bool)
    face[:, 20:40, 25:45] = True
    dub, other = source.copy(), grey.copy()
    dub[face], other[face] = 0, 0
    assert psnr.squared_error(source, dub).min() > 100
    assert psnr.squared_error(source, dub, face).max() == 0
    assert ssim.similarities(grey, other)[0].max() < 0.95
    assert ssim.similarities(grey, other, face)[0] == pytest.approx(np.ones(2), abs=1e-6)
    assert flicker.flicker(grey, other, face).max() == 0


def test_a_face_that_fills_the_frame_leaves_nothing_to_compare() -> None:
    source, whole = noise((1, 32, 32, 3)), np.ones((1, 32, 32), bool)
    assert np.isnan(psnr.squared_error(source, source, whole)).all()
    assert np.isnan(ssim.similarities(smooth(1, 32, 32), smooth(1, 32, 32), whole)[0]).all()


def test_more_noise_is_less_similar() -> None:
    grey = smooth(2, 176, 176)
    worse = [ssim.similarities(grey, grey + s * np.random.default_rng(1).normal(size=grey.shape)) for s in (2, 8, 32)]
    for scale in (0, 1):
        values = [found[scale].mean() for found in worse]
        assert values[0] > values[1] > values[2]


def test_small_pictures_have_no_five_scales() -> None:
    one, five = ssim.similarities(smooth(1, 160, 300), smooth(1, 160, 300))
    assert np.isfinite(one).all() and np.isnan(five).all()
    one, _ = ssim.similarities(smooth(1, 10, 300), smooth(1, 10, 300))
    assert np.isnan(one).all()


def test_flicker_of_independent_noise() -> None:
    """|difference of two normal variables of deviation s| has the mean 2 s / sqrt(pi)."""
    grey, deviation = smooth(40, 40, 40), 3.0
    noisy = grey + np.random.default_rng(0).normal(scale=deviation, size=grey.shape)
    assert flicker.flicker(grey, noisy).mean() == pytest.approx(2 * deviation / np.sqrt(np.pi), rel=0.01)
    assert flicker.flicker(grey, grey + 7).max() < 1e-4  # float32: a constant difference is no flicker


def test_agreement_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    colour, worse = noise((1, 50, 60, 3)), noise((1, 50, 60, 3), seed=1)
    ours = psnr.decibels(psnr.squared_error(colour, worse).mean())
    assert ours == pytest.approx(metrics.peak_signal_noise_ratio(colour, worse, data_range=255), abs=1e-5)
    grey = smooth(1, 60, 70)
    other = grey + 10 * np.random.default_rng(2).normal(size=grey.shape).astype(np.float32)
    theirs = metrics.structural_similarity(
        grey[0], other[0], data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim.similarities(grey, other)[0][0] == pytest.approx(theirs, abs=1e-4)


def test_agreement_with_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is not installed")
    import torch

    grey = smooth(2, 200, 220)
    other = grey + 10 * np.random.default_rng(2).normal(size=grey.shape).astype(np.float32)
    one, two = (torch.from_numpy(np.asarray(x, np.float32))[:, None] for x in (grey, other))
    theirs = image.multiscale_structural_similarity_index_measure(one, two, data_range=255.0)
    assert ssim.similarities(grey, other)[1].mean() == pytest.approx(float(theirs), abs=2e-3)
