"""Metrics of sound on cases whose answer is known, and against ffmpeg and other implementations."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import clips
import numpy as np
import pytest
from scipy.io import wavfile

from justdub.errors import BadInputError
from justdub.evaluation.metrics import intensity, loudness, mcd, offset, overlap, si_sdr
from justdub.evaluation.mfcc import mfcc

RATE = 16000


def tone(seconds: float, level: float) -> np.ndarray:
    """A stereo tone of 997 Hz at 48 kHz with peaks at `level` dB of full scale."""
    wave = 10 ** (level / 20) * np.sin(2 * np.pi * 997 * np.arange(round(seconds * 48000)) / 48000)
    return np.repeat(wave[None], 2, 0).astype(np.float32)


def syllables(seconds: float = 2.0, seed: int = 0, speed: float = 1.0) -> np.ndarray:
    """Something like speech at 16 kHz: harmonics whose timbre and level change, with pauses; slower or faster alike."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE / speed)) / RATE * speed
    places = np.linspace(0, seconds, 12)
    level = np.interp(time, places, random.uniform(0, 1, 12) * (random.uniform(size=12) > 0.2))
    harmonics = [
        np.interp(time, places, random.uniform(0, 1, 12)) * np.sin(2 * np.pi * 140 * k * np.arange(len(time)) / RATE)
        for k in range(1, 20)
    ]
    return (0.05 * level * np.sum(harmonics, 0) + 1e-4 * random.normal(size=len(time))).astype(np.float32)


@pytest.mark.parametrize("level", [-33.0, -23.0])
def test_loudness_of_a_tone_is_its_level(level: float) -> None:
    """EBU Tech 3341, cases 1 and 2: a stereo tone of 1 kHz has the loudness of its level."""
    assert loudness.lufs(tone(5, level)) == pytest.approx(level, abs=0.1)


def test_gates_leave_pauses_out() -> None:
    """EBU Tech 3341, case 3: quiet beginnings and ends do not count."""
    parts = [tone(3, -36), tone(30, -23), tone(3, -36)]
    assert loudness.lufs(np.concatenate(parts, 1)) == pytest.approx(-23, abs=0.1)


def test_loudness_of_silence_is_no_number() -> None:
    with pytest.raises(BadInputError, match="-70 LUFS"):
        loudness.lufs(np.zeros((2, 48000), np.float32))


def test_agreement_with_ffmpeg(tmp_path: Path) -> None:
    sound = np.stack([0.4 * np.resize(syllables(seed=1), 48000 * 3), 0.2 * np.resize(syllables(seed=2), 48000 * 3)])
    wavfile.write(tmp_path / "a.wav", 48000, sound.T)
    argv = [clips.ffmpeg_exe(), "-nostdin", "-i", tmp_path / "a.wav", "-af", "ebur128=peak=true", "-f", "null", "-"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    summary = said[said.rindex("Summary") :]
    assert loudness.lufs(sound) == pytest.approx(float(re.search(r"I:\s+(-[\d.]+) LUFS", summary)[1]), abs=0.1)
    assert loudness.true_peak(sound) == pytest.approx(float(re.search(r"Peak:\s+(-[\d.]+) dBFS", summary)[1]), abs=0.2)


def test_true_peak_lies_between_the_samples() -> None:
    """A tone of a quarter of the rate, sampled 45 degrees off its peaks, has samples 3 dB under them."""
    wave = np.sin(np.pi / 2 * np.arange(4800) + np.pi / 4)[None]
    assert 20 * np.log10(np.abs(wave).max()) == pytest.approx(-3.01, abs=0.01)
    assert loudness.true_peak(wave) == pytest.approx(0, abs=0.15)


def test_clipping_counts_runs_only() -> None:
    sound = np.zeros((1, 100))
    sound[0, [10, 11, 30]] = 1.0
    assert loudness.clipped(sound) == 0
    sound[0, 50:55] = -1.0
    assert loudness.clipped(sound) == pytest.approx(5)


@pytest.mark.parametrize("ratio", [0, 10, 30])
def test_si_sdr_of_orthogonal_noise(ratio: float) -> None:
    clean, noise = np.random.default_rng(0).normal(size=(2, 8000))
    noise -= (noise @ clean) / (clean @ clean) * clean
    noise *= np.linalg.norm(clean) / np.linalg.norm(noise) * 10 ** (-ratio / 20)
    assert si_sdr.si_sdr(clean, clean + noise) == pytest.approx(ratio)
    assert si_sdr.si_sdr(clean, 0.1 * (clean + noise)) == pytest.approx(ratio)


def test_si_sdr_of_the_same_sound_is_the_best() -> None:
    assert si_sdr.si_sdr(syllables(), 0.5 * syllables()) == si_sdr.CEILING


def test_si_sdr_agrees_with_torchmetrics() -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio", reason="torchmetrics is not installed")
    import torch

    one = torch.from_numpy(syllables(seed=1)).double()
    two = one + torch.from_numpy(syllables(seed=2))
    theirs = audio.scale_invariant_signal_distortion_ratio(two, one)
    assert si_sdr.si_sdr(one.numpy(), two.numpy()) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("milliseconds", [0, 40, 80, 200, -80])
def test_a_shift_is_found_exactly(milliseconds: int) -> None:
    sound = syllables()
    shift = milliseconds * RATE // 1000
    moved = np.pad(sound, (max(0, shift), max(0, -shift)))[max(0, -shift) :][: len(sound)]
    seconds, likeness = offset.delay(sound, moved)
    assert 1000 * seconds == milliseconds
    assert likeness > 0.99


def test_another_sound_is_not_aligned() -> None:
    random = np.random.default_rng(0)
    assert offset.delay(random.normal(size=RATE), random.normal(size=RATE))[1] < offset.SAME


def brute_force(cost: np.ndarray) -> float:
    total = np.full((len(cost) + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i in range(len(cost)):
        for j in range(cost.shape[1]):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return total[-1, -1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 4), (13, 17)])
def test_the_path_is_whole_and_the_cheapest(shape: tuple[int, int]) -> None:
    cost = np.random.default_rng(0).uniform(size=shape)
    i, j = mcd.path(cost)
    assert (i[0], j[0], i[-1], j[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
    steps = set(zip(np.diff(i).tolist(), np.diff(j).tolist(), strict=True))
    assert steps <= {(1, 0), (0, 1), (1, 1)}
    assert cost[i, j].sum() == pytest.approx(brute_force(cost))


def test_mcd_of_a_ripple_is_its_deviation_in_decibels() -> None:
    """A cosine ripple of 6 dB over the mel axis is 6 / sqrt(2) dB of mean square difference."""
    bands = np.arange(80)
    ripple = np.cos(np.pi * 3 * (bands + 0.5) / 80) * 6
    from scipy.fft import dct

    nat = ripple * np.log(10) / 20  # of the amplitude
    change = dct(nat, norm="ortho")[1 : mcd.COEFFICIENTS + 1] / np.sqrt(80 / 2)
    one = np.random.default_rng(0).normal(size=(1, mcd.COEFFICIENTS))
    assert mcd.mcd(one, one + change) == pytest.approx(6 / np.sqrt(2))


def test_a_slower_line_costs_more_in_mcd_sl_than_in_mcd() -> None:
    line, slower = mcd.cepstrum(syllables()), mcd.cepstrum(syllables(speed=0.8))
    assert mcd.mcd(line, line) == 0
    assert mcd.mcd(line, slower) > 0
    assert len(slower) / len(line) == pytest.approx(1.25, abs=0.02)
    other = mcd.cepstrum(syllables(seed=5))
    assert mcd.mcd(line, other) > 2 * mcd.mcd(line, slower)


def test_the_silence_around_a_line_is_cut_off() -> None:
    line = syllables()[4000:20000]
    padded = np.pad(line, (8000, 16000))
    assert abs(len(mcd.trimmed(padded)) - len(mcd.trimmed(line))) <= 800


def test_overlap_of_speech() -> None:
    one = np.zeros(100, bool)
    other = np.zeros(120, bool)
    one[10:60], other[35:85] = True, True
    assert overlap.overlap(one, one) == 100
    assert overlap.overlap(one, other) == pytest.approx(100 * 25 / 75)
    assert overlap.overlap(one, ~np.resize(one, 100)) == 0


def test_speech_is_where_it_is_loud_and_short_pauses_belong_to_it() -> None:
    sound = np.zeros(2 * RATE, np.float32)
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(2 * RATE) / RATE)
    for begin, end in ((0.5, 0.8), (0.9, 1.2), (1.6, 1.8)):  # pauses of 0.1 and 0.4 s
        sound[int(begin * RATE) : int(end * RATE)] = wave[: int(end * RATE) - int(begin * RATE)]
    found = np.flatnonzero(np.diff(overlap.active(sound).astype(int)))
    assert np.abs(found / 100 - np.array([0.5, 1.2, 1.6, 1.8])).max() <= 0.02


def test_intensity_correlation() -> None:
    assert intensity.intensity_correlation(syllables(), 0.3 * syllables()) == pytest.approx(1)
    assert abs(intensity.intensity_correlation(syllables(seed=1), syllables(seed=9))) < 0.7
    rising = 10 ** np.linspace(-2, 0, RATE) * np.sin(np.arange(RATE))
    assert intensity.intensity_correlation(rising, rising[::-1]) < -0.99


def test_mfcc_agrees_with_the_package_that_syncnet_was_trained_with() -> None:
    package = pytest.importorskip("python_speech_features", reason="python_speech_features is not installed")
    sound = np.round(20000 * syllables()).astype(np.int16)
    assert mfcc(sound) == pytest.approx(package.mfcc(sound, RATE), abs=1e-6)
