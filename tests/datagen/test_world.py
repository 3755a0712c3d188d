"""Properties of the drawn world: determinism, true timing, honest truth, crossed attributes, disjoint splits."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from datagen.world import World, phrases, speech, splits, visemes
from datagen.world.faces import face
from datagen.world.render import render
from datagen.world.styles import STYLES
from datagen.world.voices import voice


@pytest.fixture(scope="module")
def world() -> World:
    torch.set_num_threads(1)
    return World(seed=5)


@pytest.fixture(scope="module")
def batch(world):
    return world.batch(range(12), lips=True)


@pytest.fixture(scope="module")
def takes(world):
    return [world.perform(world.plan(index)) for index in range(150)]


def digest(clip) -> str:
    return hashlib.sha256(clip.frames.tobytes() + clip.samples.tobytes() + clip.caption.encode()).hexdigest()


def test_same_bytes_whatever_the_batch_and_order(world, batch):
    alone = world.clip(7)
    assert digest(alone) == digest(batch[7])
    backwards = world.batch([9, 7, 3])
    assert digest(backwards[1]) == digest(batch[7]) and digest(backwards[2]) == digest(batch[3])


def test_same_bytes_in_another_process(batch):
    script = (
        "import sys; sys.path.insert(0, '.'); from tests.datagen.test_world import World, digest;"
        "print(digest(World(seed=5).clip(4)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(batch[4])


def test_other_seed_other_clips(batch):
    assert digest(World(seed=6).clip(7)) != digest(batch[7])


def test_an_utterance_leaves_nothing_behind():
    rng = np.random.default_rng(0)
    items = [
        (text, language, voice(number).lines(whisper), pitch)
        for number, (language, text), whisper, pitch in itertools.product(
            (0, 35), (("en", "The girl sings."), ("ru", "Девочка поёт."), ("de", "Das Mädchen.")), (0.0, 1.0), (50, 70)
        )
    ]
    first = [speech.speak(*item[:3], pitch=item[3]).samples for item in items]
    for index in rng.permutation(np.repeat(np.arange(len(items)), 3)):
        again = speech.speak(*items[index][:3], pitch=items[index][3]).samples
        assert np.array_equal(again, first[index])


def test_unknown_language_is_refused():
    with pytest.raises(ValueError, match="knows no voice"):
        speech.speak("hello", "fr-fr", voice(0).lines())


def onset(samples: np.ndarray, level: float) -> float:
    """Seconds until the sound first exceeds a share of its peak."""
    return float(np.flatnonzero(np.abs(samples) > level * np.abs(samples).max())[0]) / speech.SAMPLE_RATE


def test_energy_starts_with_the_first_phoneme():
    rng, off = np.random.default_rng(1), []
    for index in range(60):
        language = list(speech.LANGUAGES)[index % 5]
        text = phrases.draw(rng, "base").text(language)
        said = speech.speak(text, language, voice(10 * (index % 16)).lines())
        off.append(onset(said.samples, 0.01) - said.phonemes[0].start)
    assert np.abs(off).max() < 0.010


def test_clip_time_is_the_phonemes_time(takes):
    """The same in finished clips, all styles: a slow Russian trill may be heard a little before its event."""
    plain = [take for take in takes if not take.plan.ambience]
    off = np.array([onset(take.samples, 0.02) - take.phonemes[0].start for take in plain])
    assert (np.abs(off) < 0.010).mean() > 0.95 and np.abs(off).max() < 0.06


def test_shapes_and_lengths(world, batch):
    assert batch.frames.shape == (12, 49, 96, 96, 3) and batch.frames.dtype == torch.uint8
    assert batch.samples.shape == (12, 31360) and batch.samples.dtype == np.float32
    assert world.duration == 1.96
    other = World(size=64, frame_rate=30, frames=30).clip(0)
    assert other.frames.shape == (30, 64, 64, 3) and len(other.samples) == 16000


def test_every_word_is_mapped_to_a_mouth():
    lines = voice(10).lines()
    for language in speech.LANGUAGES:
        words = phrases.vocabulary(language)
        assert len(words) > 180
        for phoneme in speech.speak(" ".join(sorted(words)), language, lines, rate=400).phonemes:
            assert not visemes.unmapped(phoneme.ipa), (language, phoneme.ipa)
            assert visemes.pieces(phoneme.ipa), (language, phoneme.ipa)


def test_phrases_fit_the_clip(world, takes):
    for take in takes:
        assert take.phonemes[0].start >= 0.03
        assert take.phonemes[-1].end <= world.duration
    length = [take.phonemes[-1].end - take.phonemes[0].start for take in takes]
    assert 0.9 < np.median(length) < 1.5
    start = np.array([take.phonemes[0].start for take in takes])
    assert start.std() > 0.12  # silence and speech are not always at the same place


def test_lips_close_on_p_b_m_and_open_on_a():
    gaps, opens = [], []
    for text in ("Mama Papa", "a poppy baby"):
        said = speech.speak(text, "en", voice(10).lines())
        for phoneme in said.phonemes:
            middle = np.array([(phoneme.start + phoneme.end) / 2])
            jaw = visemes.mouth_track(said.phonemes, middle)[0, 0]
            if phoneme.ipa[-1] in "pbm":
                gaps.append(jaw)
            if "ɑ" in phoneme.ipa:
                opens.append(jaw)
    assert max(gaps) < 0.08 and min(opens) > 0.6


def test_mouth_track_is_the_same_at_any_rate():
    said = speech.speak("The girl sings", "en", voice(10).lines())
    fine = visemes.mouth_track(said.phonemes, np.arange(200) / 100)
    coarse = visemes.mouth_track(said.phonemes, np.arange(50) / 25)
    assert np.array_equal(fine[::4], coarse)
    assert np.abs(visemes.mouth_track((), np.arange(3) / 25)).max() == 0


def test_truth_matches_the_picture(batch):
    """The drawn lips' bounds lie within 1.5 px of the true box, and the box holds the mouth's change."""
    lips = batch.lips.numpy()
    for clip, frame in itertools.product(range(12), range(0, 49, 8)):
        ys, xs = np.nonzero(lips[clip, frame])
        found = np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
        assert np.abs(found - batch.box_BF4[clip, frame]).max() < 2.5
    width = np.concatenate([take.mouth.width_F for take in batch.takes])
    assert 20 < np.median(width) < 34


def test_only_dialogue_moves_the_lips(takes):
    kinds = Counter(take.plan.scene_type for take in takes)
    assert kinds["dialogue"] > 100 and kinds["narration"] > 4 and kinds["monologue"] > 4
    for take in takes:
        moves = np.ptp(take.mouth.opening_F) > 2
        assert moves == (take.plan.scene_type == "dialogue")


def test_loudness_follows_the_mouth_no_more_than_speech_does(takes):
    """In-speech correlation of opening and level is clearly above that of shuffled clips."""
    levels, opens = [], []
    for take in takes:
        if take.plan.scene_type != "dialogue":
            continue
        first, last = (round(25 * t) for t in (take.phonemes[0].start, take.phonemes[-1].end))
        frames = range(first + 1, min(last, 47))
        energy = [20 * np.log10(np.std(take.samples[f * 640 - 320 : f * 640 + 320]) + 1e-4) for f in frames]
        levels.append(np.array(energy)), opens.append(take.mouth.opening_F[frames.start : frames.stop])
    own = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(levels, opens, strict=True)])
    shifted = opens[1:] + opens[:1]
    mixed = []
    for a, b in zip(levels, shifted, strict=True):
        n = min(len(a), len(b))
        mixed.append(np.corrcoef(a[:n], b[:n])[0, 1])
    assert own > 0.35 and own > np.mean(mixed) + 0.25


def test_a_blink_is_seen_and_touches_only_the_eyes(takes):
    drawing = next(
        take.drawing
        for take in takes
        if any(0.05 < at < 1.9 for at in take.plan.motion.blinks) and take.plan.scene.occluder == "none"
    )
    shut = int(drawing.track.lids_F.argmin())
    assert drawing.track.lids_F[shut] < 0.1
    awake = dataclasses.replace(drawing, track=dataclasses.replace(drawing.track, lids_F=np.ones(49)))
    changed = (render([drawing, awake]).frames.int().diff(dim=0)[0, shut].abs().sum(-1) > 60).numpy()
    rows = np.nonzero(changed.any(1))[0]
    middle = drawing.track.pose_F5[shut, 1]
    assert changed.sum() > 40 and middle - 22 < rows.min() and rows.max() < middle + 4


def test_pair_shares_the_person_and_translates(world):
    batch = world.pairs([2, 5])
    for first, second in ((0, 1), (2, 3)):
        a, b = batch.takes[first], batch.takes[second]
        assert a.plan.language != b.plan.language and a.plan.meaning == b.plan.meaning
        assert (a.plan.voice, a.plan.face, a.plan.style) == (b.plan.voice, b.plan.face, b.plan.style)
        assert np.array_equal(a.drawing.track.pose_F5, b.drawing.track.pose_F5)
        still = (batch.frames[first] == batch.frames[second]).all(-1).float().mean()
        assert still > 0.85  # all but mouth and chin
        gender = voice(a.plan.voice).kind.gender
        assert b.plan.text.replace(",", "") == a.plan.meaning.text(b.plan.language, gender)


def test_splits_are_disjoint_and_fixed(world):
    seen = {name: [world.plan(index, name) for index in range(60)] for name in splits.SPLITS}
    for name, plans in seen.items():
        for plan in plans:
            assert splits.split_of(plan.voice) == splits.split_of(plan.face) == name
            assert splits.split_of_phrase(plan.meaning.key) == name
    assert splits.split_of_phrase("where is: 3") == splits.split_of_phrase("where is: 3")
    with pytest.raises(ValueError, match="splits are"):
        world.plan(0, "train")


def test_every_split_has_every_kind_of_person():
    for split, gender, age in itertools.product(splits.SPLITS, splits.GENDERS, splits.AGES):
        kind = splits.Kind(gender, age)
        for count, u in ((splits.VOICES, 0.0), (splits.FACES, 0.999), (splits.VOICES, 0.5)):
            number = splits.draw(split, kind, count, u)
            assert 0 <= number < count and splits.kind_of(number) == kind and splits.split_of(number) == split


def test_no_attribute_predicts_another(world):
    """Style against language, voice, face, phrase pattern and scene type: Cramer's V near zero over 3000 plans."""
    plans = [world.plan(index) for index in range(1500)]
    plans += [world.plan(index, "library") for index in range(1500)]
    style = [plan.style for plan in plans]
    others = {
        "language": [plan.language for plan in plans],
        "gender": [voice(plan.voice).kind.gender for plan in plans],
        "scene type": [plan.scene_type for plan in plans],
        "intensity": [plan.intensity for plan in plans],
        "glasses": [face(plan.face).glasses for plan in plans],
    }
    for name, values in others.items():
        assert cramers_v(style, values) < 0.08, name
    tints = np.mean([plan.tint_style == plan.style for plan in plans])
    assert 0.68 < tints < 0.80  # 70 % on purpose, and 1/6 of the rest by chance
    feelings = [plan.meaning.feeling for plan in plans]
    assert 0.26 < np.mean([f is not None for f in feelings]) < 0.34


def cramers_v(a, b) -> float:
    """Bias-corrected association of two lists of categories, 0..1."""
    rows, columns = sorted(set(a)), sorted(set(b))
    table = np.zeros((len(rows), len(columns)))
    for x, y in zip(a, b, strict=True):
        table[rows.index(x), columns.index(y)] += 1
    n = table.sum()
    expected = table.sum(1, keepdims=True) * table.sum(0) / n
    chi2 = ((table - expected) ** 2 / expected).sum() / n
    r, k = len(rows), len(columns)
    return float(np.sqrt(max(0.0, chi2 - (r - 1) * (k - 1) / (n - 1)) / (min(r, k) - 1)))


def test_styles_are_heard_and_shares_sum_to_one(world):
    assert sum(style.share for style in STYLES.values()) == pytest.approx(1.0)
    plan = next(p for p in map(world.plan, range(50)) if p.scene_type == "dialogue" and not p.ambience)
    loud = {}
    for name in STYLES:
        take = world.perform(dataclasses.replace(plan, style=name, intensity=1.0, laughs=False))
        loud[name] = 20 * np.log10(np.std(take.samples))
    assert loud["angry"] > loud["neutral"] + 2 > loud["sad"] + 2 and loud["whisper"] < loud["neutral"] - 3


def test_captions_are_true(takes):
    styled = 0
    for take in takes:
        plan, person = take.plan, take.drawing.face
        assert f'saying: "{plan.text}"' in take.caption
        assert speech.LANGUAGES[plan.language] in take.caption
        assert not ("glasses" in take.caption and not person.glasses)
        assert not ("beard" in take.caption and "beard" not in person.beard)
        assert not ("bald" in take.caption and (person.cut != "bald" or person.hat != "none"))
        head = take.caption.split("saying:")[0]
        styled += any(word in head for word in STYLES[plan.style].words)
        if plan.scene_type != "narration":
            nouns = {("woman", "child"): "girl", ("man", "child"): "boy"}
            assert nouns.get((person.kind.gender, person.kind.age), person.kind.gender) in head
    assert 0.38 < styled / len(takes) < 0.62


def test_translations_have_no_untranslated_cell():
    from datagen.world import vocabulary

    tables = [name for name in dir(vocabulary) if name.isupper() and name != "LANGUAGE_ORDER"]
    for table in tables:
        for row in phrases._rows(table):
            assert len(row) == 5, (table, row)
            assert all(row) or table == "DEGREES"
            assert not any("\u0400" <= letter <= "\u04ff" for cell in row[:4] for letter in cell)


def test_size_must_fit():
    with pytest.raises(ValueError, match="divisible by 16"):
        render([], size=50)


def test_command_writes_a_sheet(tmp_path, capsys):
    from datagen.world.__main__ import main

    assert main(["--out", str(tmp_path), "--n", "2", "--pairs"]) == 0
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("*.wav"))) == len(list(tmp_path.glob("*.json"))) == 2
    assert "saying" in capsys.readouterr().out


def test_a_line_sounds_the_same_whatever_was_said_before():
    world = World(0)
    plans = [world.plan(number) for number in range(60)]
    said = [world.perform(plan).samples for plan in plans]
    for plan, before in zip(reversed(plans), reversed(said), strict=True):
        assert np.array_equal(world.perform(plan).samples, before)
