"""`justdub dub` from file to file, with the bundled backbone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import clips
import models
import numpy as np
import pytest
from adapter_files import write_adapter

from justdub.cli.main import run
from justdub.errors import EXIT_BAD_INPUT, EXIT_DONE
from justdub.media import probe
from justdub.sequence import SequenceRules

PROMPT = 'The woman is speaking French, saying: "Bonjour"'
FAST = ["--steps", "2", "--guidance", "1", "--audio-guidance", "1", "--quiet"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clips.make_clip(tmp_path / "clip.mp4", seconds=0.8, subtitles=True, chapters=True, title="A title")


def dub(clip: Path, output: Path, *extra: str, prompt: str = PROMPT) -> None:
    assert run(["dub", "-i", str(clip), "-o", str(output), "-p", prompt, *FAST, *extra]) == EXIT_DONE


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_dub_has_the_sources_shape_and_its_other_streams(clip: Path, tmp_path: Path) -> None:
    dub(clip, tmp_path / "out.mp4")
    source, out = probe(clip), probe(tmp_path / "out.mp4")
    for name in ("width", "height", "frame_rate", "frames", "sample_aspect"):
        assert getattr(out.video, name) == getattr(source.video, name), name
    assert abs(out.audio.duration - out.duration) <= 0.02
    assert (out.audio.language, out.audio.rate) == ("fra", 48000)
    assert (len(out.subtitles), out.chapters) == (1, 2)


def test_the_manifest_says_everything(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.mp4"
    dub(clip, output, "--seed", "7", "--json")
    captured = capsys.readouterr()
    printed = json.loads(captured.out.splitlines()[-1])
    assert printed == json.loads(Path(f"{output}.json").read_text())
    assert printed["input"]["sha256"] == digest(clip)
    assert printed["output"]["sha256"] == digest(output)
    assert printed["settings"]["seed"] == 7
    assert printed["sampling"]["passes"] == 2
    assert len(printed["sampling"]["sigmas"]) == 3
    assert printed["prompt"] == {"text": PROMPT, "language": "fra", "has_dialogue": True}
    assert any("padded from 20 to 21 frames" in note for note in printed["adjustments"])
    assert set(printed["seconds"]) == {"read", "encode", "denoise", "decode", "write", "total"}
    assert {"torch", "diffusers", "justdub"} <= set(printed["versions"])
    assert "far from what mini was trained on" in captured.err  # a test pattern is no face
    assert "no --adapter" in captured.err


def test_the_same_seed_gives_the_same_file(clip: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        dub(clip, tmp_path / f"{name}.mp4", "--seed", seed)
    assert digest(tmp_path / "a.mp4") == digest(tmp_path / "b.mp4") != digest(tmp_path / "c.mp4")


def test_text_and_language_build_the_prompt(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    arguments = ["dub", "-i", str(clip), "-o", str(output), "--text", "Guten Tag", "-l", "de", "--speaker", "The man"]
    assert run([*arguments, *FAST]) == EXIT_DONE
    manifest = json.loads(Path(f"{output}.json").read_text())
    assert manifest["prompt"]["text"] == 'The man is speaking German, saying: "Guten Tag"'
    assert probe(output).audio.language == "deu"


def test_a_silent_clip_is_dubbed_and_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = clips.make_clip(tmp_path / "silent.mp4", seconds=0.6, audio=None)
    dub(silent, tmp_path / "out.mp4")
    assert "silent reference" in capsys.readouterr().err
    assert probe(tmp_path / "out.mp4").audio is not None


AWKWARD = ["-dash.mp4", "with space.mp4", "it's.mp4", 'a "q".mp4', "colon:12.mp4", "é你好.mp4", "%d.mp4", "[b].mp4"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    clip.rename(folder / name)
    monkeypatch.chdir(folder)
    assert run(["dub", f"--input={name}", f"--output=out {name}", "-p", PROMPT, *FAST]) == EXIT_DONE
    assert sorted(p.name for p in folder.iterdir()) == sorted([name, f"out {name}", f"out {name}.json"])


def test_an_adapter_changes_the_result_and_is_recorded(clip: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "my adapter.safetensors")
    outputs = {}
    for name, extra in {"bare": [], "one": ["-a", str(adapter)], "half": ["-a", f"{adapter}:0.5"],
                        "none": ["-a", f"{adapter}:0"]}.items():  # fmt: skip
        dub(clip, tmp_path / f"{name}.mkv", *extra)
        outputs[name] = digest(tmp_path / f"{name}.mkv")
    manifest = json.loads((tmp_path / "half.mkv.json").read_text())
    (entry,) = manifest["adapters"]
    assert (entry["name"], entry["strength"], entry["sha256"]) == ("my_adapter", 0.5, digest(adapter))
    assert len({outputs["bare"], outputs["one"], outputs["half"]}) == 3


def test_an_adapter_brings_its_rules(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the LTX-2 Dub-It adapters are run: no cross-modal rule, audio before time zero, half-size reference."""
    rules = SequenceRules(cross_modal="full", audio_positions="negative", reference_downscale=2)
    adapter = write_adapter(tmp_path / "lipdub.safetensors", rules=rules)
    dub(clip, tmp_path / "out.mp4", "-a", str(adapter))
    manifest = json.loads((tmp_path / "out.mp4.json").read_text())
    assert manifest["rules"] == asdict(rules)
    tokens = manifest["sampling"]["tokens"]
    assert tokens["video"]["target"] == 4 * tokens["video"]["reference"] > 0
    assert tokens["audio"]["target"] == tokens["audio"]["reference"]
    assert "no --adapter" not in capsys.readouterr().err
    other = write_adapter(tmp_path / "other.safetensors")
    arguments = ["dub", "-i", str(clip), "-o", str(tmp_path / "o.mp4"), "-p", PROMPT, *FAST]
    assert run([*arguments, "-a", str(adapter), "-a", str(other)]) == EXIT_BAD_INPUT
    assert "other rules" in capsys.readouterr().err


def test_reference_mode_and_cache(clip: Path, tmp_path: Path) -> None:
    """The command line reaches isolated references; with and without the cache the frames are the same."""
    reports = {}
    for name, extra in {"cached": [], "plain": ["--no-cache"]}.items():
        dub(clip, tmp_path / f"{name}.mp4", "--reference", "isolated", *extra)
        reports[name] = json.loads((tmp_path / f"{name}.mp4.json").read_text())["sampling"]
    assert (reports["cached"]["prefills"], reports["plain"]["prefills"]) == (1, 0)
    from justdub.media import FrameReader

    frames = [np.concatenate(list(FrameReader(probe(tmp_path / f"{name}.mp4")))) for name in reports]
    assert np.abs(frames[0].astype(int) - frames[1].astype(int)).mean() < 0.5


def test_every_guidance_is_reachable(clip: Path, tmp_path: Path) -> None:
    dub(clip, tmp_path / "out.mp4", "--guidance", "3", "--reference-guidance", "1", "--modality-guidance", "2", "--stg",
        "0.5", "--rescale", "0.5", "--keep-first-frame", "--size", "64x96")  # fmt: skip
    sampling = json.loads((tmp_path / "out.mp4.json").read_text())["sampling"]
    assert sampling["passes"] == 2 * 5


def test_bars_are_drawn_for_every_stage(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dub", "-i", str(clip), "-o", str(tmp_path / "o.mp4"), "-p", PROMPT, "--steps", "2"]
    assert run(arguments) == EXIT_DONE
    error = capsys.readouterr().err
    for stage in ("reading", "encoding", "denoising", "decoding", "writing"):
        assert stage in error


def test_python_api(clip: Path, tmp_path: Path) -> None:
    from justdub import DubPipeline

    pipe = DubPipeline.from_pretrained(models.mini_folder(), device="cpu")
    result = pipe(clip, prompt=PROMPT, seed=1, steps=1, guidance=1.0, audio_guidance=1.0)
    assert result.frames_FHW3.shape[0] == 20
    assert result.audio_CS.shape[1] == round(20 / 25 * result.audio_rate)
    result.save(tmp_path / "out.webm")
    assert probe(tmp_path / "out.webm").video.codec == "vp9"

    before = pipe(clip, prompt=PROMPT, seed=1, steps=1, guidance=1.0, audio_guidance=1.0).frames_FHW3
    pipe.load_adapter(write_adapter(tmp_path / "a.safetensors"))
    adapted = pipe(clip, prompt=PROMPT, seed=1, steps=1, guidance=1.0, audio_guidance=1.0).frames_FHW3
    pipe.unload_adapters()
    after = pipe(clip, prompt=PROMPT, seed=1, steps=1, guidance=1.0, audio_guidance=1.0).frames_FHW3
    assert np.array_equal(before, after)
    assert not np.array_equal(before, adapted)
