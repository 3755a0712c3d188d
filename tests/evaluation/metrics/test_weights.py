"""Loaders of the user's weights, each with a tiny random network of the right layout, and with files that are wrong."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from justdub.errors import BadInputError, MissingError
from justdub.evaluation import faces
from justdub.evaluation.cache import Cache
from justdub.evaluation.metric import NotComputed
from justdub.evaluation.metrics import dnsmos, emotion, fid, fvd, identity, syncnet, words
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools, Weights
from justdub.evaluation.weights import Network

EXAMPLE = Path(__file__).parents[3] / "justdub" / "examples" / "clip.mp4"


class Inception(nn.Module):
    """uint8 (B, 3, H, W) -> (B, 4), with the argument of the usual exchange file."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        means = images.float().mean((2, 3))
        return torch.cat([means, means[:, :1] ** 2 if return_features else means[:, :1]], 1)


class I3d(nn.Module):
    def forward(
        self, clips: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        assert not rescale and not resize and return_features
        return torch.cat([clips.mean((2, 3, 4)), clips.std((2, 3, 4))], 1)


class Faces(nn.Module):
    def forward(self, faces: Tensor) -> Tensor:
        return faces.mean(1).flatten(1)[:, :512]


class Sounds(nn.Module):
    """(1, S) -> (1, 8 frames, 3)."""

    def forward(self, sound: Tensor) -> Tensor:
        parts = sound[:, : sound.shape[1] // 24 * 24].reshape(1, 8, 3, -1)
        return parts.abs().mean(-1)


class Opinions(nn.Module):
    def forward(self, sound: Tensor) -> Tensor:
        return torch.stack([3 + sound.mean(1), 4 + 0 * sound.mean(1), 2 + 0 * sound.mean(1)], 1)


def scripted(net: nn.Module, path: Path) -> str:
    torch.jit.script(net).save(str(path))
    return str(path)


def sample(tools: Tools, **changes) -> Sample:
    clip = Clip(EXAMPLE, Cache(None))
    return Sample(**({"name": "example", "source": clip, "dubbed": clip, "tools": tools} | changes))


@pytest.fixture
def faced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A face on the identity template, so that no detector is needed."""

    def landmarks(clip: Clip) -> np.ndarray:
        points = np.zeros((clip.info.video.frames, faces.LANDMARKS, 2), np.float32)
        for group, place in zip(identity._POINTS, identity.TEMPLATE, strict=True):
            points[:, list(group)] = place
        angle = np.linspace(0, 2 * np.pi, len(faces.OUTLINE), endpoint=False)
        points[:, list(faces.OUTLINE)] = np.stack((56 + 30 * np.cos(angle), 56 + 40 * np.sin(angle)), -1)
        return points

    monkeypatch.setattr(faces, "identity", lambda: "drawn here")
    monkeypatch.setattr(identity, "landmarks", landmarks)
    monkeypatch.setattr(syncnet, "landmarks", landmarks)


def test_fid_and_fvd_of_the_same_clips_are_nought(tmp_path: Path) -> None:
    weights = Weights(inception=scripted(Inception(), tmp_path / "a.pt"), i3d=scripted(I3d(), tmp_path / "b.pt"))
    samples = [sample(Tools(weights))] * 2
    assert fid.METRICS[0].measure(samples) == pytest.approx(0, abs=1e-6)
    assert fvd.METRICS[0].measure(samples) == pytest.approx(0, abs=1e-6)
    features = fid.features(samples[0].source, samples[0].tools)
    frames = samples[0].source.info.video.frames
    assert features.shape == (-(-frames // fid.EVERY), 4)
    first = next(samples[0].source.frames())[0]
    assert features[0, :3] == pytest.approx(first.mean((0, 1)), rel=1e-4)
    assert features[0, 3] == pytest.approx(first.mean((0, 1))[0] ** 2, rel=1e-4)


def test_identity(tmp_path: Path, faced: None) -> None:
    tools = Tools(Weights(arcface=scripted(Faces(), tmp_path / "faces.pt")))
    one = sample(tools)
    assert identity.METRICS[0].measure(one) == pytest.approx(1, abs=1e-5)
    assert identity.embeddings(one.source, tools).shape == (-(-one.source.info.video.frames // 5), 512)


def test_another_face_is_less_alike(tmp_path: Path, faced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sample(Tools(Weights(arcface=scripted(Faces(), tmp_path / "faces.pt"))))
    turned = Clip(EXAMPLE, Cache(None))
    monkeypatch.setattr(turned, "frames", lambda: (255 - chunk for chunk in Clip(EXAMPLE, Cache(None)).frames()))
    assert identity.csim(one.replaced(dubbed=turned)) < 0.5 < identity.csim(one)


def test_emotion(tmp_path: Path) -> None:
    path = scripted(Sounds(), tmp_path / "emotion.pt")
    tools = Tools(Weights(emotion=path, emotion_classes=path), emotion_labels=("calm", "angry", "sad"))
    scores = emotion._vector(sample(tools).dub, tools, "emotion_classes")
    label = tools.emotion_labels[int(scores.argmax())]
    assert emotion.similarity(sample(tools)) == pytest.approx(100)
    assert emotion.accuracy(sample(tools, emotion=label)) == 100
    assert emotion.accuracy(sample(tools, emotion=next(one for one in tools.emotion_labels if one != label))) == 0
    assert "the classes have no names" in emotion.METRICS[1].measure(sample(Tools(tools.weights), emotion="sad")).reason
    assert "not among the labels" in emotion.METRICS[1].measure(sample(tools)).reason


def test_dnsmos_maps_raw_scores_by_the_published_polynomials(tmp_path: Path) -> None:
    network = Network(Path(scripted(Opinions(), tmp_path / "d.pt")))
    for seconds in (2, 12):
        found = dnsmos.dnsmos(network, np.zeros(16000 * seconds, np.float32))
        assert found["speech"] == pytest.approx(-0.08397278 * 9 + 1.22083953 * 3 + 0.0052439)
        assert found["background"] == pytest.approx(-0.13166888 * 16 + 1.60915514 * 4 - 0.39604546)
        assert found["overall"] == pytest.approx(-0.06766283 * 4 + 1.11546468 * 2 + 0.04602535)


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `identity`)")
    helper = pytest.importorskip(
        "onnx.helper", reason="onnx, which writes the test's network, cannot be imported", exc_type=ImportError
    )
    import onnx

    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    shapes = [("x", [None, 3, 112, 112]), ("y", [None, 3])]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph([node], "means", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "means.onnx")
    picture = np.random.default_rng(0).normal(size=(1, 3, 112, 112)).astype(np.float32)
    assert Network(tmp_path / "means.onnx")(picture) == pytest.approx(picture.mean((2, 3)), abs=1e-6)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(BadInputError, match="no ONNX network"):
        Network(tmp_path / "bad.onnx")


def test_pickled_checkpoints_and_damaged_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "pickled.pt")
    with pytest.raises(BadInputError, match="could run any code"):
        Network(tmp_path / "pickled.pt")
    (tmp_path / "noise.pt").write_bytes(b"\x00" * 500)
    with pytest.raises(BadInputError, match="damaged"):
        Network(tmp_path / "noise.pt")
    whole = Path(scripted(Faces(), tmp_path / "whole.pt")).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match="damaged"):
        Network(tmp_path / "half.pt")


def test_syncnet_has_the_published_layout() -> None:
    shapes = {name: tuple(value.shape) for name, value in syncnet.SyncNet().state_dict().items()}
    for name, shape in {
        "netcnnaud.0.weight": (64, 1, 3, 3), "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.11.weight": (256, 384, 3, 3), "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4), "netcnnaud.19.running_mean": (512,),
        "netfcaud.0.weight": (512, 512),
        "netfcaud.1.running_var": (512,), "netfcaud.3.weight": (1024, 512), "netfclip.3.bias": (1024,),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7), "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.8.weight": (256, 256, 1, 3, 3), "netcnnlip.11.weight": (256, 256, 1, 3, 3),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3), "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    }.items():  # fmt: skip
        assert shapes[name] == shape, name


@pytest.fixture(scope="module")
def sync_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sync") / "syncnet.safetensors"
    save_file({f"__S__.{name}": value for name, value in syncnet.SyncNet().state_dict().items()}, path)
    return path


def test_syncnet_runs_on_a_clip(sync_weights: Path, faced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sample(Tools(Weights(syncnet=str(sync_weights))))
    monkeypatch.setattr(syncnet, "_slots", lambda clip: list(range(8)))
    found = {metric.key: metric.measure(one) for metric in syncnet.METRICS}
    assert found["lse_d"] > 0 and found["lse_c"] >= 0 and found["async"] <= syncnet.REACH


@pytest.mark.parametrize("late", [-7, 0, 3])
def test_syncnet_finds_the_offset_at_which_vectors_agree(late: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 16))
    found = syncnet.distances(vectors[20:80], vectors[20 - late : 80 - late])
    assert syncnet.offset_of(found) == late
    assert found.min() < 0.6 * np.median(found)


def test_syncnet_on_another_rate_shows_what_is_on_screen() -> None:
    class Fast:
        class info:
            duration = Fraction(1)

            class video:
                frames, frame_rate = 50, Fraction(50)

    assert syncnet._slots(Fast) == list(range(0, 50, 2))


def test_tensors_of_another_network_are_refused(sync_weights: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match=r"lacks netcnnaud\.0\.weight"):
        syncnet.load(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(sync_weights.read_bytes()[:1000])
    with pytest.raises(BadInputError, match="damaged"):
        syncnet.load(tmp_path / "cut.safetensors")
    torch.save({}, tmp_path / "pickled.pth")
    with pytest.raises(BadInputError, match="not safetensors"):
        syncnet.load(tmp_path / "pickled.pth")


def test_a_corrupt_weight_file_is_one_line_for_every_clip(tmp_path: Path) -> None:
    (tmp_path / "arcface.pt").write_bytes(b"\x00" * 100)
    tools = Tools(Weights(arcface=str(tmp_path / "arcface.pt")))
    first, second = (identity.METRICS[0].measure(sample(tools)) for _ in range(2))
    assert isinstance(first, NotComputed) and first == second
    assert "damaged" in first.reason and "\n" not in str(first)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper folder with random weights and a tokenizer of bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    folder = tmp_path_factory.mktemp("whisper")
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|fr|>", "<|translate|>", "<|transcribe|>",
               "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*letters, *special])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    end, start = vocabulary["<|endoftext|>"], vocabulary["<|startoftranscript|>"]
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, bos_token_id=end, eos_token_id=end,
        pad_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    net = WhisperForConditionalGeneration(config)
    net.generation_config.update(
        is_multilingual=True, lang_to_id={"<|fr|>": vocabulary["<|fr|>"]}, max_new_tokens=8, suppress_tokens=[],
        begin_suppress_tokens=None, no_timestamps_token_id=vocabulary["<|notimestamps|>"],
        task_to_id={name: vocabulary[f"<|{name}|>"] for name in ("transcribe", "translate")},
    )  # fmt: skip
    net.save_pretrained(folder)
    return folder


def test_whisper_from_a_folder(whisper: Path) -> None:
    one = sample(Tools(Weights(whisper=str(whisper))), text="Bonjour à tous", language="fr")
    said = words.heard(one)
    wer, cer = (metric.measure(one) for metric in words.METRICS)
    assert wer == words.error_rate(words.normalise(said, "fr").split(), ["bonjour", "à", "tous"])
    assert cer >= 0
    assert words.METRICS[0].measure(one.replaced(text=said + " xyz")) > 0


def test_a_folder_that_is_no_whisper(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"has no .safetensors"):
        words.Whisper(tmp_path)
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(BadInputError, match="no Whisper that can be loaded"):
        words.Whisper(tmp_path)
