"""Pretraining of the joint transformer: latents with captions, exact resuming, sound alone, half-precision weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from datagen.world.clip import World
from datagen.world.pretrain import phonemes, transformer
from datagen.world.pretrain.latents import SLOTS, LatentSet, LatentSpec, lip_cells, open_or_encode
from datagen.world.pretrain.muon import Muon
from datagen.world.pretrain.training import TrainSettings
from justdub import jobs
from justdub.backbone import checkpoint, untrained
from justdub.backbone.codecs import AudioCodec, VideoCodec
from justdub.errors import BadInputError

ROOT = Path(__file__).parents[3]
CODEC = ROOT / "datagen" / "world" / "pretrain" / "results" / "audio_codec" / "audio_vae"
SIZE = untrained.Size(
    video_heads=2, video_head_dim=16, audio_heads=2, audio_head_dim=16, layers=2, video_channels=4, patch=2,
    audio_channels=4, ratios=(4, 16, 16), text_width=32, text_window=512, registers=None,
)  # fmt: skip
SOUND = LatentSpec(clips=12, pictures=False)


@pytest.fixture(scope="module")
def audio_codec():
    from diffusers import AutoencoderKLLTX2Audio

    return AudioCodec(AutoencoderKLLTX2Audio.from_pretrained(CODEC, torch_dtype=torch.float32).eval(), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("latents")


@pytest.fixture(scope="module")
def sounds(folder, audio_codec):
    return open_or_encode(folder, folder, SOUND, audio_codec, None, None)


@pytest.fixture(scope="module")
def pictures(sounds):
    """The same clips with pictures of noise: what is tested does not depend on a video codec."""
    torch.manual_seed(0)
    lips = torch.rand(len(sounds), 13, 6, 6) > 0.8
    return dataclasses.replace(sounds, video=torch.randn(len(sounds), 4, 13, 6, 6).half(), lips=lips)


def job(folder: Path, name: str, **changes) -> transformer.TransformerJob:
    train = TrainSettings(
        steps=4, warmup=1, lr=3e-3, average=0.5, log_every=1, checkpoint_every=2, validate_every=4, **changes
    )
    return transformer.TransformerJob(
        out=str(folder / name), latents=str(folder), shards=str(folder), audio_codec=str(CODEC),
        sound_on=(SOUND,), check_on=SOUND, size=SIZE, parts=(transformer.PartSettings("sound", 4),), compile=False,
        train=train,
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.pt", weights_only=True)["average"]


def test_latents_are_the_clips_own(folder, sounds, audio_codec):
    take = World(0).perform(World(0).plan(7))
    assert sounds.captions[7] == take.caption
    assert torch.equal(sounds.audio[7], audio_codec.encode(take.samples[None])[0].half())
    assert 0.5 < sounds.audio.float().std() < 2
    again = open_or_encode(folder, folder, SOUND, None, None, None)  # nothing is encoded twice
    assert torch.equal(again.audio, sounds.audio)


def test_latents_with_pictures_know_where_the_lips_are(folder, audio_codec, tmp_path):
    video = VideoCodec(checkpoint.load().video_codec.vae)
    spec = LatentSpec(clips=2)
    found = open_or_encode(tmp_path, tmp_path, spec, audio_codec, video, None)
    clip = World(0).clip(1)
    assert torch.equal(found.video[1], video.encode(clip.frames)[0].half())
    grid = found.lips.shape[1:]
    assert found.lips[1].flatten(1).any(1).all() and found.lips[1].float().mean() < 0.5
    x, y = (clip.box_F4[0, :2] + clip.box_F4[0, 2:]) / 2 / 96
    assert found.lips[1, 0, int(y * grid[1]), int(x * grid[2])]


def test_lip_cells_by_hand():
    box = np.array([[0.1, 0.5, 0.4, 0.6]] * 2 + [[0.8, 0.0, 0.9, 0.1]])
    cells = lip_cells(box, (2, 4, 4), 2)
    assert cells[0].nonzero().tolist() == [[2, 0], [2, 1]]
    assert cells[1].nonzero().tolist() == [[0, 3], [2, 0], [2, 1]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_equals_uninterrupted(folder, sounds, dtype, tmp_path, monkeypatch):
    whole = job(folder, f"whole-{dtype}", dtype=dtype)
    figures = transformer.run(whole)
    assert figures["audio"] > 0
    cut = dataclasses.replace(whole, out=str(tmp_path / "cut"))
    train = transformer.train
    monkeypatch.setattr(transformer, "train", lambda *args, **kwargs: train(*args, **kwargs, stop_at=2))
    transformer.run(cut)
    monkeypatch.setattr(transformer, "train", train)
    transformer.run(cut, resume=True)
    one, two = weights(folder / f"whole-{dtype}"), weights(tmp_path / "cut")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_saved_parts_make_a_checkpoint_with_the_means(folder, sounds, tmp_path):
    run = job(folder, "saved")
    transformer.run(run)
    from diffusers import LTX2VideoTransformer3DModel

    saved = LTX2VideoTransformer3DModel.from_pretrained(Path(run.out) / "checkpoint" / "transformer")
    means = weights(Path(run.out))
    learner = transformer.Learner(SIZE, seed=5)
    learner.load(Path(run.out) / "checkpoint")
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad and not name.startswith("reader"):
            assert torch.equal(parameter, means[name].bfloat16().float()), name
    other = transformer.Learner(dataclasses.replace(SIZE, layers=3))
    with pytest.raises(BadInputError):
        other.load(Path(run.out) / "checkpoint")
    name = "proj_in.weight"
    assert torch.equal(saved.state_dict()[name].float(), means[f"transformer.{name}"].bfloat16().float())


def test_sound_alone_teaches_what_separate_streams_teach(folder, pictures):
    learner = transformer.Learner(SIZE)
    captions = ['The woman is speaking French, saying: "Oui."', "", "A longer one, with nothing said at all."]
    both = transformer.Batch(
        pictures.audio[:3].float(), pictures.video[:3].float(), pictures.lips[:3], captions, pictures.phonemes[:3]
    )
    alone = dataclasses.replace(both, video_BCfhw=None, lips_Bfhw=None)
    settings = dataclasses.replace(job(folder, "alone"), noise=transformer.NoiseSettings(apart=0.0))
    noise = torch.randn(3, 50, 64)
    draw = torch.randn

    def same_noise(shape, **options):
        """The same audio noise for both, whatever the number of video tokens before it."""
        return noise if shape == noise.shape else draw(shape, **options)

    heard = []
    for batch in (both, alone):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", same_noise)
            generator = torch.Generator().manual_seed(1)
            heard.append(transformer.flow_loss(learner, batch, settings, generator, separate=True)[1]["audio"])
    assert heard[0] == pytest.approx(heard[1], rel=1e-5)
    _, crossing = transformer.flow_loss(learner, both, settings, torch.Generator().manual_seed(1))
    assert crossing["video"] > 0


def test_the_reader_hears_each_phoneme_at_its_time(sounds):
    learner = transformer.Learner(SIZE)
    heard_TS = sounds.phonemes[7].view(-1, SLOTS).long()
    states = torch.nn.functional.one_hot(torch.arange(50) % 32, 32).float()[None]  # a state of its own for each step
    with torch.no_grad():
        learner.reader.weight.zero_()
        learner.reader.bias.zero_()
        for step in range(32):
            for slot in range(SLOTS):
                learner.reader.weight.view(SLOTS, -1, 32)[slot, heard_TS[step, slot], step] = 60.0
    learner._states["audio_BTD"] = states[:, :32]
    assert learner.reading_loss(sounds.phonemes[7:8, : 32 * SLOTS]) < 1e-3
    assert learner.reading_loss(sounds.phonemes[7:8, : 32 * SLOTS].roll(SLOTS, 1)) > 1  # one step late


def test_labels_say_what_is_heard_when(sounds):
    world = World(0)
    spoken = world.spoken(world.plan(7))
    classes = sounds.phonemes[7]
    assert classes.shape == (50 * SLOTS,)
    longest = max(spoken, key=lambda phoneme: phoneme.end - phoneme.start)
    middle = round((longest.start + longest.end) / 2 / 0.02)
    assert classes[middle] > 0
    before, after = round((spoken[0].start - 0.05) / 0.02), round((spoken[-1].end + 0.05) / 0.02)
    assert not classes[: max(0, before)].any() and not classes[after:].any()
    assert 0.2 < (sounds.phonemes > 0).float().mean() < 0.9
    assert phonemes.CLASSES - 1 not in sounds.phonemes  # every symbol of these clips is known


def test_padding_of_prompts_changes_nothing():
    learner = transformer.Learner(SIZE)
    short, long = "Hello.", 'The woman is speaking French, saying: "Le soldat attend."'
    alone = learner.text.encode_batch([short], learner.text.count_tokens(short))
    beside = learner.text.encode_batch([short, long], learner.text.count_tokens(long))
    count = alone.audio_BLD.shape[1]
    assert alone.audio_mask_BL is None and int(beside.audio_mask_BL[0].sum()) == count
    torch.testing.assert_close(beside.audio_BLD[:1, -count:], alone.audio_BLD, atol=5e-4, rtol=1e-3)


def test_batches_hold_captions_of_similar_length(sounds):
    rng = np.random.default_rng(0)
    many = LatentSet(
        None,
        sounds.audio[:1].expand(400, -1, -1, -1),
        None,
        None,
        ["x" * n for n in range(400)],
        sounds.phonemes[:1].expand(400, -1),
    )
    spread = [len(c) for c in transformer.draw_batch([many], 32, 0.0, rng).captions]
    assert max(spread) - min(spread) < 220
    dropped = [transformer.draw_batch([many], 32, 0.5, rng).captions.count("") for _ in range(20)]
    assert 200 < sum(dropped) < 440


def test_muon_keeps_masters_of_half_precision_weights():
    torch.manual_seed(0)
    half = torch.nn.Parameter(torch.randn(8, 8).bfloat16())
    optimizer = Muon([half], lr=1e-4)
    before = half.detach().clone()
    for _ in range(3):
        half.grad = torch.randn(8, 8).bfloat16()
        optimizer.step()
    assert optimizer.weights(half).dtype == torch.float32
    moved = (optimizer.weights(half) != before.float()).float().mean()  # by less than the spacing of bfloat16
    assert moved > 0.9 and (half == before).float().mean() > 0.9
    state = optimizer.state_dict()
    fresh = Muon([torch.nn.Parameter(half.detach().clone())], lr=1e-4)
    fresh.load_state_dict(state)
    (place,) = fresh.param_groups[0]["params"]
    assert torch.equal(fresh.weights(place), optimizer.weights(half))


def test_the_config_in_the_repository_is_a_job():
    for path in sorted((ROOT / "configs" / "pretrain").glob("transformer*.yaml")):
        loaded = jobs.load(transformer.TransformerJob, path)
        assert loaded.size.video_channels * loaded.size.patch**2 == 128
