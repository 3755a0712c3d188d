"""Masks on the latent grid: grouped in time like the VAE, nothing thin is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from justdub.faces.masks import enlarge, fill, held, to_latents, to_pixels, to_tokens
from justdub.tokens import Geometry

GEOMETRY = Geometry(frames_per_latent=8, pixels_per_latent=32)


@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2)])
def test_a_frame_belongs_to_the_latent_that_the_causal_vae_puts_it_in(frame: int, latent: int) -> None:
    mask = torch.zeros(17, 64, 32, dtype=torch.bool)
    mask[frame, 40, 3] = True
    found = to_latents(mask, GEOMETRY)
    assert found.shape == (3, 2, 1)
    assert found.nonzero().tolist() == [[latent, 1, 0]]


def test_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="off the grid"):
        to_latents(torch.zeros(16, 64, 64), GEOMETRY)


def test_tokens_take_the_largest_of_their_latents() -> None:
    mask = torch.zeros(1, 3, 4, 4)
    mask[0, 2, 1, 2] = 0.7
    assert to_tokens(mask, 2)[0, 2].tolist() == [[0, pytest.approx(0.7)], [0, 0]]
    assert to_tokens(mask, 1) is mask


def test_pixels_are_those_that_a_latent_stands_for() -> None:
    mask = torch.zeros(3, 2, 1, dtype=torch.bool)
    mask[1, 1, 0] = True
    pixels = to_pixels(mask, GEOMETRY)
    assert pixels.shape == (17, 64, 32)
    assert pixels[1:9, 32:].all() and pixels.sum() == 8 * 32 * 32
    assert torch.equal(to_latents(pixels, GEOMETRY) > 0, mask)


def test_outlines_grow_and_fill_and_are_held() -> None:
    square = np.array([[[10, 10], [20, 10], [20, 20], [10, 20]]], np.float32)
    small, large = fill(square, (40, 30)), fill(enlarge(square, 5.0), (40, 30))
    assert small.shape == (1, 30, 40) and small[0, 15, 15] and not small[0, 15, 25] and large[0].sum() > small[0].sum()
    assert not fill(np.full((1, 4, 2), np.nan), (40, 30)).any()
    one = np.zeros((7, 1, 1), bool)
    one[3] = True
    assert held(one, 2)[:, 0, 0].tolist() == [False, True, True, True, True, True, False]
    assert held(one, 0) is not one and np.array_equal(held(one, 0), one)
