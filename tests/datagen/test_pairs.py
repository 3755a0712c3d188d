"""A training set of pairs: what is written is what was drawn, in the trainer's layout, resumable, held apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from datagen import film
from datagen.world import pairs
from datagen.world.__main__ import main as command
from datagen.world.clip import World
from justdub.errors import BadInputError, UsageError
from justdub.media import FrameReader, probe, read_audio
from justdub.training.dataset import read_pairs

COUNT = 4


@pytest.fixture(scope="module")
def world() -> World:
    torch.set_num_threads(1)
    return World(seed=0)


@pytest.fixture(scope="module")
def drawn(world) -> list[pairs.Pair]:
    return pairs.draw(world, list(pairs.choose(world, pairs.Request(COUNT, "adapters"))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs") / "set"
    assert pairs.write(root, pairs.Request(COUNT, "adapters"), command="the command") == 2 * COUNT
    return root


def frames_of(path) -> np.ndarray:
    return np.concatenate(list(FrameReader(probe(path))))


def test_files_hold_what_was_drawn(folder, drawn):
    for pair in drawn:
        for half, clip in zip("ab", pair.clips, strict=True):
            info = probe(folder / f"clips/{pair.number:06d}_{half}.mp4")
            assert np.array_equal(frames_of(info.path), clip.frames)
            assert (info.video.frame_rate, info.duration, info.audio.rate) == (25, info.audio.duration, 16000)
        white = frames_of(folder / f"masks/{pair.number:06d}.mp4")
        assert np.array_equal(white, np.repeat(pair.mask_FHW[..., None] * np.uint8(255), 3, -1))


def test_sound_is_kept_to_16_bits(tmp_path):
    rng = np.random.default_rng(0)
    samples = np.concatenate((rng.uniform(-0.5, 0.5, 30000), [1, -1, 0.25] * 10)).astype(np.float32)
    path = tmp_path / "clip.mp4"
    film.put(path, film.encode(np.zeros((47, 32, 32, 3), np.uint8), samples, frame_rate=25))
    heard = read_audio(probe(path), rate=16000, channels=1)[0]
    assert np.abs(heard[: len(samples)] - samples).max() < 2 / 32768 and not heard[len(samples) :].any()
    assert [one.name for one in tmp_path.iterdir()] == ["clip.mp4"]


def test_the_list_is_what_the_trainer_reads(folder, drawn):
    found = read_pairs(folder / "dataset.json")
    assert not found.faults and not found.ignored and len(found.pairs) == 2 * COUNT
    for number, pair in enumerate(drawn):
        a, b = (clip.take for clip in pair.clips)
        to_b, to_a = found.pairs[2 * number : 2 * number + 2]
        assert to_b.target == to_a.reference and to_a.target == to_b.reference and to_a.mask == to_b.mask
        assert (to_a.caption, to_b.caption) == (pairs.caption(a), pairs.caption(b))
        assert a.plan.text in to_a.caption and to_a.target.name.endswith("_a.mp4")


def test_a_pair_differs_in_the_mask_only(drawn):
    for pair in drawn:
        a, b = pair.clips
        assert a.take.plan.language != b.take.plan.language
        assert np.array_equal(a.frames[~pair.mask_FHW], b.frames[~pair.mask_FHW])
        assert 0.05 < pair.mask_FHW.mean() < 0.25
        for clip in (a, b):  # lips and chin lie in it whether or not they differ
            assert pair.mask_FHW[pairs.inside(clip.box_F4, 96)].all()


def test_people_and_phrases_are_not_those_of_the_test(world):
    sets = {}
    for split in ("adapters", "test"):
        plans = [half for both in pairs.choose(world, pairs.Request(150, split)) for half in both]
        assert all(plan.scene_type == "dialogue" and not plan.laughs for plan in plans)
        sets[split] = [{plan.voice for plan in plans}, {plan.face for plan in plans}]
        sets[split] += [{plan.meaning.key for plan in plans}, {plan.text for plan in plans}]
    for ours, theirs in zip(sets["adapters"], sets["test"], strict=True):
        assert len(ours) > 50 and not ours & theirs


def test_only_wanted_languages_are_targets(world, tmp_path):
    request = pairs.Request(3, "adapters", languages=pairs.parse_languages("French, ru"))
    pairs.write(tmp_path, request)
    spoken = {"fr": "French", "ru": "Russian"}
    captions = [pair.caption for pair in read_pairs(tmp_path / "dataset.json").pairs]
    assert len(captions) >= 3 and all(any(f"speaking {name}" in one for name in spoken.values()) for one in captions)
    everything = [plans[0] for plans in pairs.choose(world, pairs.Request(60, "adapters", everything=True))]
    assert {plan.scene_type for plan in everything} == {"dialogue", "narration", "monologue"}


def test_a_third_of_the_captions_is_the_plain_one(world):
    from datagen.world.clip import Take

    plain = 0
    plans = [half for both in pairs.choose(world, pairs.Request(150, "adapters")) for half in both]
    for plan in plans:
        take = Take(plan, None, (), (), "its own", None, None)
        found = pairs.caption(take)
        assert found == pairs.caption(take)
        plain += found.startswith("The person is speaking ") and found.endswith(f': "{plan.text}"')
    assert 0.25 < plain / len(plans) < 0.42


def test_only_missing_pairs_are_drawn(folder, tmp_path):
    request, done = pairs.Request(COUNT, "adapters"), []
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    listed = (folder / "dataset.json").read_bytes()
    pairs.write(folder, request, command="the command", progress=lambda *so_far: done.append(so_far))
    assert not done
    victim = sorted(folder.glob("clips/*.json"))[1]
    victim.unlink()  # what a kill between the clips and the facts leaves
    (folder / "clips" / ".000002_a.mp4.part").write_bytes(b"half")
    pairs.write(folder, request, command="the command", progress=lambda *so_far: done.append(so_far))
    assert done == [(1, 1)] and victim.exists()
    assert (folder / "dataset.json").read_bytes() == listed
    again = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert {path.name[:6] for path in again} == {victim.stem} and len(again) == 3


def test_processes_write_what_one_writes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "TOGETHER", 2)
    pairs.write(tmp_path, pairs.Request(COUNT, "adapters"), workers=2, command="the command")
    assert (tmp_path / "dataset.json").read_bytes() == (folder / "dataset.json").read_bytes()
    for path in folder.glob("clips/*.mp4"):
        assert np.array_equal(frames_of(tmp_path / "clips" / path.name), frames_of(path))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--n", "0"], UsageError.exit_code, "0 pairs"),
        (["--to", "fr,xx"], UsageError.exit_code, "does not speak 'xx'"),
        (["--to", "it"], UsageError.exit_code, "does not speak 'it'"),
        (["--workers", "0"], UsageError.exit_code, "0 workers"),
        (["--seed", "1"], BadInputError.exit_code, "another world"),
    ],
)
def test_a_fault_is_one_line(folder, capsys, options, code, words):
    assert command(["pairs", "--out", str(folder), "--n", "1", *options]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert command(["pairs", "--out", str(tmp_path / "file"), "--n", "1"]) == BadInputError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


def test_the_card_names_the_command_and_counts(tmp_path, capsys):
    root = tmp_path / "a b"
    assert command(["pairs", "--out", str(root), "--n", "2", "--to", "de", "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "pairs: 2 of 2" in said.err and said.out.startswith("2 pairs, ")
    card, entries = (root / "README.md").read_text(), json.loads((root / "dataset.json").read_text())
    assert f"pairs --out '{root}' --n 2 --to de" in card
    assert f"{len(entries)} examples" in card and "| de |" in card


def test_a_folder_may_have_a_list_of_one_language_beside_the_whole_one(tmp_path):
    root, request = tmp_path / "set", pairs.Request(COUNT, "adapters", languages=("fr",))
    pairs.write(root, request, name="fr.json")
    whole = pairs.write(root, pairs.Request(COUNT, "adapters"))
    one, two = (json.loads((root / name).read_text(encoding="utf-8")) for name in ("fr.json", "dataset.json"))
    assert 0 < len(one) <= COUNT and len(two) == whole
    assert all("French" in entry["caption"] for entry in one) and not all("French" in entry["caption"] for entry in two)
    assert "fr.json" in (root / "fr.md").read_text(encoding="utf-8") and (root / "README.md").exists()
    with pytest.raises(UsageError, match=r"\.\./fr\.json"):
        pairs.write(root, request, name="../fr.json")
