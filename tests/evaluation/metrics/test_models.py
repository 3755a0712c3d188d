"""Metrics that need a small model: what is pure of them everywhere, the rest where the package is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from justdub.errors import BadInputError, MissingError
from justdub.evaluation import faces
from justdub.evaluation.cache import Cache
from justdub.evaluation.metrics import english, identity, lips, mouth, speaker, voice_activity, words
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools, Weights
from justdub.faces.masks import fill

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "justdub" / "examples" / "clip.mp4"


def sample(**changes) -> Sample:
    clip = Clip(EXAMPLE, Cache(None))
    return Sample(**({"name": "example", "source": clip, "dubbed": clip, "tools": Tools()} | changes))


def mesh(opening: np.ndarray, size: float = 1.0) -> np.ndarray:
    """(F, 478, 2) landmarks of a mouth 60 wide that is open by `opening` times that."""
    points = np.zeros((len(opening), faces.LANDMARKS, 2), np.float32)
    points[:, 308, 0] = 60
    for upper, lower in ((81, 178), (13, 14), (311, 402)):
        points[:, lower, 1] = points[:, upper, 1] + 60 * opening
    return points * size


def test_mouth_ratio_is_height_over_width_at_any_size() -> None:
    wanted = np.array([0, 0.2, 0.7])
    for size in (1, 3.5):
        assert mouth.ratios(mesh(wanted, size)) == pytest.approx(wanted, abs=1e-6)


def test_a_face_that_is_lost_for_a_while_is_held() -> None:
    points = mesh(np.array([0.1, 0.2, 0.3, 0.4]))
    points[1:3] = np.nan
    assert mouth.ratios(faces.filled(points)) == pytest.approx([0.1, 0.1, 0.4, 0.4], abs=1e-6)


@pytest.mark.parametrize("late", [-4, 0, 1, 5])
def test_lips_follow_the_sound_at_its_offset(late: int) -> None:
    movement = np.convolve(np.random.default_rng(0).normal(size=160), np.ones(4) / 4, "same")
    opening, level = movement[20:120], movement[20 - late : 120 - late]
    found = lips.correlations(opening, level, np.ones(100, bool), 10)
    assert found.argmax() - 10 == late
    assert found.max() == pytest.approx(1)


def test_a_closed_mouth_has_no_correlation() -> None:
    with pytest.raises(BadInputError, match="never changes"):
        lips.correlations(np.zeros(50), np.random.default_rng(0).normal(size=50), np.ones(50, bool), 2)
    with pytest.raises(BadInputError, match="too little speech"):
        lips.correlations(*np.random.default_rng(0).normal(size=(2, 50)), np.arange(50) < 7, 0)


def smiling(seconds: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """(F,) opening and (S,) sound of somebody whose voice hums on behind closed lips, and who smiles in pauses."""
    frames, rate = round(25 * seconds), 16000
    opening = np.abs(np.convolve(np.random.default_rng(1).normal(size=frames), np.ones(4) / 2, "same"))
    time = np.arange(round(seconds * rate)) / rate
    open_S = np.interp(time, np.arange(frames) / 25, opening)
    sound = np.sin(2 * np.pi * 150 * time) * 0.5 + open_S * 0.1 * np.sin(2 * np.pi * 2500 * time)
    pause = np.arange(frames) % 50 >= 36
    smile = 1.3 * opening[~pause].mean()
    return np.where(pause, smile, opening), (sound * ~np.repeat(pause, rate // 25)).astype(np.float32)


def test_a_smile_in_a_pause_and_a_hum_behind_closed_lips_do_not_count() -> None:
    opening, sound = smiling()
    every = np.ones(len(opening), bool)
    assert lips.correlations(opening, lips.envelope(sound, len(opening), 25.0), every, 0)[0] < 0
    found = []
    for late in (0, 1, 2, 5):
        later = np.pad(sound, (640 * late, 0))[: len(sound)]
        tracks = lips.bright(later, len(opening), 25.0), lips.speaking(later, len(opening), 25.0)
        curve = lips.correlations(opening, *tracks, 8)
        assert curve.argmax() - 8 == late
        found.append(curve[8])
    assert found[0] > 0.7 and found[0] > found[1] > max(found[2:])


def test_the_envelope_is_the_level_at_each_frame() -> None:
    time = np.arange(32000) / 16000
    level = lips.envelope(((time >= 1) * np.sin(2 * np.pi * 300 * time)).astype(np.float32), 50, 25.0)
    assert level[:22].max() == pytest.approx(level.max() - lips.FLOOR)
    assert level[28:48].min() > level.max() - 0.5


def test_the_mask_of_a_polygon() -> None:
    square = np.array([[[10, 5], [20, 5], [20, 15], [10, 15]]], float)
    mask = fill(square, (40, 30))
    assert mask.shape == (1, 30, 40)
    assert mask[0, 6:15, 11:20].all() and not mask[0, :4].any() and not mask[0, :, 23:].any()


def test_faces_of_an_installed_mediapipe() -> None:
    if find_spec("mediapipe") is None:
        with pytest.raises(MissingError, match="needs mediapipe"):
            faces.landmarks(sample().dub)
        pytest.skip("mediapipe is not installed (extra `face`)")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which carries a photograph, is not installed")
    tracked = faces._find(_Still(data.astronaut(), 4))
    assert tracked.shape == (4, faces.LANDMARKS, 2)
    assert mouth.ratios(tracked) == pytest.approx(np.full(4, 0.16), abs=0.03)  # a smile
    points = np.array([tracked[0][list(group)].mean(0) for group in identity._POINTS])
    moved = identity.similarity_transform(points, identity.TEMPLATE)
    assert (np.linalg.norm(points @ moved[:, :2].T + moved[:, 2] - identity.TEMPLATE, axis=1) < 8).all()


class _Still:
    """A clip that is one picture."""

    def __init__(self, picture: np.ndarray, count: int) -> None:
        self.picture, self.count = picture, count

    def frames(self):
        yield np.repeat(self.picture[None], self.count, 0)


def test_no_face_is_one_line() -> None:
    pytest.importorskip("mediapipe", reason="mediapipe is not installed (extra `face`)")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    assert np.isnan(faces._find(_Still(noise, 2))).all()


def test_a_similarity_transform_is_found_exactly() -> None:
    angle, scale, shift = 0.4, 1.7, np.array([3.0, -5.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.random.default_rng(0).normal(size=(5, 2))
    found = identity.similarity_transform(points, points @ turn.T + shift)
    assert found == pytest.approx(np.hstack((turn, shift[:, None])))


def test_a_face_on_the_template_stays_where_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    points = np.zeros((faces.LANDMARKS, 2))
    for group, place in zip(identity._POINTS, identity.TEMPLATE, strict=True):
        points[list(group)] = place
    assert np.abs(identity.aligned(picture, points).astype(int) - picture).max() <= 1


def test_voice_activity() -> None:
    pytest.importorskip("silero_vad", reason="silero-vad is not installed (extra `speech`)")
    dub = sample()
    assert voice_activity.METRICS[0].measure(dub) == 100
    assert voice_activity.voiced(dub.dub, dub.tools).mean() > 0.5


def test_voice_activity_says_what_is_missing() -> None:
    if find_spec("silero_vad"):
        pytest.skip("silero-vad is installed")
    assert "justdub[speech]" in voice_activity.METRICS[0].measure(sample()).remedy


def test_parts_of_a_voice() -> None:
    assert speaker.parts(np.zeros((40, 40), np.float32)).shape == (1, 160, 40)
    assert speaker.parts(np.zeros((1001, 40), np.float32)).shape == (12, 160, 40)


def test_speaker_weights_are_read_as_tensors_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = speaker.SpeakerNet().eval()
    good, evil = tmp_path / "good.pt", tmp_path / "evil.pt"
    torch.save({"step": 1, "model_state": net.state_dict() | {"similarity_weight": torch.ones(1)}}, good)
    torch.save({"model_state": Path("/")}, evil)
    sound = 0.01 * np.random.default_rng(0).normal(size=32000).astype(np.float32)
    one = speaker.embed(speaker.load_speaker_net(good), sound)
    assert np.linalg.norm(one) == pytest.approx(1)
    assert one == pytest.approx(speaker.embed(net, 0.5 * sound), abs=1e-5)  # quiet sounds are raised to one level
    with pytest.raises(BadInputError, match="not the speaker weights"):
        speaker.load_speaker_net(evil)


def test_another_voice_is_less_alike() -> None:
    if find_spec("resemblyzer") is None:
        assert "resemblyzer" in speaker.METRICS[0].measure(sample()).remedy
        pytest.skip("resemblyzer is not installed")
    net = speaker._net(Tools())
    sound = sample().dub.speech
    half = len(sound) // 2
    one, same, other = (speaker.embed(net, x) for x in (sound[:half], sound[half:], np.interp(
        np.arange(0, len(sound), 1.4), np.arange(len(sound)), sound).astype(np.float32)))  # fmt: skip
    assert one @ same > one @ other
    assert speaker.METRICS[0].measure(sample()) == pytest.approx(100, abs=1e-3)


def test_english_words() -> None:
    if find_spec("pocketsphinx") is None:
        assert "asr-lite" in english.METRICS[0].measure(sample(text="hello", language="en")).remedy
        pytest.skip("pocketsphinx is not installed (extra `asr-lite`)")
    decoder = english._decoder(Tools())
    assert english.hear(decoder, np.zeros(16000, np.float32)) == ""
    assert isinstance(english.METRICS[0].measure(sample(text="hello there", language="en")), float)


def test_english_words_of_a_french_line_are_not_counted() -> None:
    assert "English only" in english.METRICS[0].measure(sample(text="bonjour", language="fr")).reason


@pytest.mark.parametrize(
    ("text", "language", "plain"),
    [
        ("Hello, I'm Mr. Brown!", "en", "hello i am mister brown"),
        ("It costs twenty-five dollars.", "en", "it costs $25"),
        ("¿Dónde está «Ana»? [laughs]", "es", "dónde está ana"),
        ("Ça va, l'été?", "fr", "ça va l été"),
        ("你好，世界", "zh", "你 好 世 界"),
    ],
)
def test_texts_are_compared_without_dress(text: str, language: str, plain: str) -> None:
    assert words.normalise(text, language) == plain


def test_word_errors_agree_with_jiwer() -> None:
    said, wanted = "the cat sat on mat today", "the cat sits on the mat"
    ours = words.error_rate(said.split(), wanted.split())
    assert ours == pytest.approx(100 * 3 / 6)
    jiwer = pytest.importorskip("jiwer", reason="jiwer is not installed (extra `speech`)")
    assert ours == pytest.approx(100 * jiwer.wer(wanted, said))
    letters = [text.replace(" ", "") for text in (said, wanted)]
    assert words.error_rate(*letters) == pytest.approx(100 * jiwer.cer(letters[1], letters[0]))


def test_what_was_not_given_is_named() -> None:
    assert "--weights whisper=PATH" in words.METRICS[0].measure(sample(text="x", language="fr")).remedy
    tools = Tools(Weights(whisper="/nowhere"))
    assert "no file" in words.METRICS[0].measure(sample(text="x", language="fr", tools=tools)).reason
    with pytest.raises(MissingError, match="no text"):
        words.wanted_text(sample(language="fr"))
