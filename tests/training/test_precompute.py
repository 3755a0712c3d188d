"""From clips to the cache: what inference encodes is what training reads; nothing stale, nothing half-written."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from justdub.backbone import checkpoint
from justdub.errors import BadInputError, UsageError
from justdub.media import probe
from justdub.tokens import Geometry
from justdub.training.batches import Order, draw
from justdub.training.cache import Cache, Cut, pad_texts
from justdub.training.config import DropoutSettings, InpaintSettings, NoiseSettings
from justdub.training.dataset import read_pairs
from justdub.training.precompute import Bucket, Encoder, read_frames_cut

GEOMETRY = Geometry(frames_per_latent=8, pixels_per_latent=32)


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """Clips a, b (20 frames), short (5 frames), silent, fast (30/s), a mask, and what is no clip."""
    folder = tmp_path_factory.mktemp("footage")
    for name, how in {
        "a": {}, "b": {"title": "b"}, "short": {"seconds": 0.2}, "silent": {"audio": None}, "fast": {"rate": "30"},
        "mask": {"audio": None, "title": "mask"},
    }.items():  # fmt: skip
        clips.make_clip(folder / f"{name}.mp4", **({"seconds": 0.8, "size": (96, 64)} | how))
    (folder / "text.mp4").write_text("no clip")
    return folder


def listed(footage: Path, name: str, *entries: dict) -> Path:
    path = footage / f"{name}.json"
    path.write_text(json.dumps(entries))
    return path


def entry(target="a", reference="b", mask=None, caption="Hello.") -> dict:
    found = {"caption": caption, "media_path": f"{target}.mp4", "reference_path": f"{reference}.mp4"}
    return found | ({"mask_path": f"{mask}.mp4"} if mask else {})


def encoder(folder: Path, backbone, **settings) -> Encoder:
    calls = []

    def load():
        calls.append(1)
        return backbone

    made = Encoder(load, folder, backbone.transformer.geometry, **settings)
    made.calls = calls
    return made


def test_what_is_cached_is_what_inference_encodes(footage, tmp_path, tiny, tiny_folder):
    from justdub.media import read_audio

    pairs = read_pairs(listed(footage, "one", entry(mask="mask")))
    cache = Cache(tmp_path)
    found = encoder(tiny_folder, tiny).run(pairs, cache)
    (pair,) = found.pairs
    assert pair.cut.frames == 17 and pair.frame_rate == 25, "20 frames hold 17 of the grid"
    sample = cache.read_sample(pair.sample)
    frames = read_frames_cut(probe(footage / "a.mp4"), pair.cut)
    expected = tiny.video_codec.encode(frames)[0]
    torch.testing.assert_close(sample.video_target_Cfhw.float(), expected, atol=2e-3, rtol=2e-3)
    codec = tiny.audio_codec
    sound = read_audio(probe(footage / "b.mp4"), rate=codec.sample_rate, channels=codec.channels,
                       duration=Fraction(17, 25))  # fmt: skip
    assert torch.equal(sample.audio_reference_CTM, codec.encode(sound)[0]), "audio stays float32"
    assert sample.mask_fhw.shape == sample.video_target_Cfhw.shape[1:] and sample.mask_fhw.max() > 0
    text = cache.read_text(pair.texts[0])
    torch.testing.assert_close(text.audio_BLD, tiny.text.encode("Hello.").audio_BLD)


def test_nothing_is_encoded_twice_and_nothing_stale_is_read(footage, tmp_path, tiny, tiny_folder, monkeypatch):
    pairs, cache = read_pairs(listed(footage, "two", entry(), entry("b", "a"))), Cache(tmp_path)
    first = encoder(tiny_folder, tiny)
    names = [pair.sample for pair in first.run(pairs, cache).pairs]
    again = encoder(tiny_folder, tiny)
    assert [pair.sample for pair in again.run(pairs, cache).pairs] == names and not again.calls
    smaller = encoder(tiny_folder, tiny, downscale=2).run(pairs, cache)
    assert not set(names) & {pair.sample for pair in smaller.pairs}, "another preprocessing has other names"
    monkeypatch.setattr(checkpoint, "fingerprint", lambda folder, parts=(), text_encoder=None: f"other {parts}")
    retrained = encoder(tiny_folder, tiny).run(pairs, cache)
    assert not set(names) & {pair.sample for pair in retrained.pairs}, "other encoders have other names"
    clip = (footage / "a.mp4").read_bytes()
    try:
        (footage / "a.mp4").write_bytes(clip + b"\0")
        monkeypatch.undo()
        other = encoder(tiny_folder, tiny).run(pairs, cache)
        assert not set(names) & {pair.sample for pair in other.pairs}, "other bytes have other names"
    finally:
        (footage / "a.mp4").write_bytes(clip)


def test_processes_share_the_work_and_see_the_whole(footage, tmp_path, tiny, tiny_folder):
    entries = [entry("ab"[n % 2], "ba"[n % 2], caption=f"Line {n}.") for n in range(4)]
    pairs, cache = read_pairs(listed(footage, "four", *entries)), Cache(tmp_path)
    halves = [encoder(tiny_folder, tiny).run(pairs, cache, part=part, parts=2) for part in range(2)]
    assert halves[0].digest() == halves[1].digest() and len(halves[0].pairs) == 4
    assert all(cache.sample_path(p.sample).exists() and cache.text_path(p.texts[0]).exists() for p in halves[0].pairs)


def test_faults_are_named_and_stop_above_the_limit(footage, tmp_path, tiny, tiny_folder):
    bad = [entry("silent"), entry("fast"), entry("text"), entry(mask="text", caption="x"), entry("a", "missing")]
    pairs = read_pairs(listed(footage, "bad", entry(), *bad))
    found = encoder(tiny_folder, tiny).run(pairs, Cache(tmp_path), broken_limit=1.0)
    said = {fault.entry: fault.reason for fault in found.faults}
    assert len(found.pairs) == 1 and set(said) == {2, 3, 4, 5, 6}
    assert "no sound" in said[2] and "30" in said[3] and "text.mp4" in said[4] and "does not exist" in said[6]
    with pytest.raises(BadInputError, match="pairs cannot be used"):
        encoder(tiny_folder, tiny).run(pairs, Cache(tmp_path), broken_limit=0.3)
    long = read_pairs(listed(footage, "long", entry(), entry("short", "a")))
    found = encoder(tiny_folder, tiny, buckets=["64x64x17"]).run(long, Cache(tmp_path), broken_limit=1.0)
    assert len(found.pairs) == 1 and "5 frames; expected 17 or more" in found.faults[0].reason


def test_a_killed_write_leaves_nothing_that_counts(footage, tmp_path, tiny, tiny_folder, monkeypatch):
    pairs, cache = read_pairs(listed(footage, "killed", entry())), Cache(tmp_path)

    def killed(tensors, path, **_):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("justdub.training.cache.save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            encoder(tiny_folder, tiny).run(pairs, cache)
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.part"))
    (pair,) = encoder(tiny_folder, tiny).run(pairs, cache).pairs
    path = cache.sample_path(pair.sample)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInputError, match="damaged"):
        cache.read_sample(pair.sample)


@pytest.mark.parametrize(("text", "said"), [("960x544", "WxHxF"), ("64x64x16", "64x64x17"), ("50x64x17", "divisible")])
def test_buckets_lie_on_the_grid(text, said):
    with pytest.raises(UsageError, match=said):
        Bucket.parse(text, GEOMETRY, 1)


def test_a_bucket_is_the_nearest_shape_then_the_longest(footage, tiny, tiny_folder):
    info = probe(footage / "a.mp4")  # 96 x 64, 20 frames
    made = encoder(tiny_folder, tiny, buckets=["64x64x17", "96x64x9", "96x64x17", "192x128x17", "96x64x25"])
    assert made.cut(info, info) == Cut(192, 128, 17, 1, crop=True)
    frames = read_frames_cut(info, Cut(64, 64, 9, crop=True))
    assert frames.shape == (9, 64, 64, 3)
    whole = read_frames_cut(info, Cut(96, 64, 9))
    assert np.array_equal(frames, whole[:, :, 16:80]), "scaled to cover, cut at the centre"


def test_padding_of_texts_is_masked(tiny):
    texts = [tiny.text.encode("a"), tiny.text.encode("a much longer line")]
    batch = pad_texts(texts, 8)
    lengths = [text.video_BLD.shape[1] for text in texts]
    assert batch.video_BLD.shape[1] % 8 == 0 and batch.video_mask_BL.sum(1).tolist() == lengths
    assert torch.equal(batch.audio_BLD[0, : lengths[0]], texts[0].audio_BLD[0])
    assert pad_texts(texts[:1]).video_mask_BL is None


def test_every_epoch_has_every_pair_in_updates_of_one_shape():
    order = Order(["wide"] * 7 + ["tall"] * 3, 2, seed=1)
    assert order.per_epoch == 6
    for epoch in range(3):
        updates = [order.update(epoch * 6 + step).tolist() for step in range(6)]
        assert {index for update in updates for index in update} == set(range(10))
        assert all(len({index < 7 for index in update}) == 1 for update in updates)
    assert Order(["wide"] * 7 + ["tall"] * 3, 2, seed=1).update(9).tolist() == order.update(9).tolist()
    assert [order.update(s).tolist() for s in range(6)] != [order.update(s).tolist() for s in range(6, 12)]


def test_draws_have_their_shares_and_do_not_depend_on_each_other():
    noise, dropout = NoiseSettings(apart=0.25, first_frame=0.5), DropoutSettings(0.2, 0.1, 0.05)
    drawn = [draw(0, step, slot, 3, 117, noise, dropout, InpaintSettings()) for step in range(500) for slot in range(4)]
    assert drawn[7] == draw(0, 1, 3, 3, 117, noise, dropout, InpaintSettings())
    assert len({one.seed for one in drawn}) == len(drawn)

    def share(test) -> float:
        return sum(map(test, drawn)) / len(drawn)

    for state, expected in (("full", 0.65), ("no_text", 0.2), ("no_reference", 0.1), ("nothing", 0.05)):
        assert share(lambda one, state=state: one.condition == state) == pytest.approx(expected, abs=0.03)
    assert share(lambda one: one.keep_first_frame) == pytest.approx(0.5, abs=0.04)
    assert share(lambda one: one.video_sigma != one.audio_sigma) == pytest.approx(0.25, abs=0.03)
    assert all(0 < one.video_sigma <= 1 for one in drawn)


def test_half_precision_on_disk(tmp_path, pairs):
    path = pairs.cache.sample_path(pairs.pairs[0].sample)
    kinds = {name: tensor.dtype for name, tensor in load_file(path).items()}
    assert kinds["video_target"] == torch.float16 and kinds["audio_target"] == torch.float32


def test_a_clip_without_reference(footage, tmp_path, tiny, tiny_folder):
    alone = {"caption": "Hello.", "media_path": "a.mp4", "mask_path": "mask.mp4"}
    pairs = read_pairs(listed(footage, "alone", alone), references=False)
    cache = Cache(tmp_path)
    (pair,) = encoder(tiny_folder, tiny).run(pairs, cache).pairs
    sample = cache.read_sample(pair.sample)
    assert sample.video_reference_Cfhw is None and sample.audio_reference_CTM is None
    (both,) = encoder(tiny_folder, tiny).run(read_pairs(listed(footage, "both", entry(mask="mask"))), cache).pairs
    assert both.sample != pair.sample
    assert torch.equal(cache.read_sample(both.sample).video_target_Cfhw, sample.video_target_Cfhw)
