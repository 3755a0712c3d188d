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
from justdub.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_MISSING, EXIT_USAGE
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


def test_an_adapter_says_how_it_is_best_run(clip: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a.safetensors", sampling={"audio_guidance": 1.0, "guidance": 1.0, "steps": 3.0})
    found = []
    for number, more in enumerate([[], ["--audio-guidance", "2"]]):
        output, report = tmp_path / f"{number}.mp4", tmp_path / f"{number}.mp4.json"
        assert (
            run(["dub", "-i", str(clip), "-o", str(output), "-p", PROMPT, "-q", "-a", str(adapter), *more]) == EXIT_DONE
        )
        found.append(json.loads(report.read_text())["sampling"]["passes"])
    assert found == [3, 6]


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


# -- what a big backbone needs, on a small one ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upsampler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random x2 upsampler for the bundled backbone's latents, as an official file."""
    import torch
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
    from safetensors.torch import save_file

    config = json.loads((models.mini_folder() / "vae" / "config.json").read_text())
    torch.manual_seed(0)
    module = LTX2LatentUpsamplerModel(config["latent_channels"], mid_channels=32, num_blocks_per_stage=1)
    path = tmp_path_factory.mktemp("upsampler") / "spatial-upscaler-x2.safetensors"
    save_file(dict(module.state_dict()), path)
    return path


def test_two_stages_from_the_command_line(clip: Path, tmp_path: Path, upsampler: Path, capsys) -> None:
    refining = write_adapter(tmp_path / "distilled.safetensors")
    options = ["--two-stage", "--upsampler", str(upsampler), "--refine-adapter", f"{refining}:0.8", "--size", "130x96"]
    dub(clip, tmp_path / "out.mp4", *options)
    manifest = json.loads((tmp_path / "out.mp4.json").read_text())
    assert "size 130x96 taken as 128x128, the nearest that two stages can make" in capsys.readouterr().err
    assert manifest["settings"]["two_stage"] == "justdubit"
    assert manifest["refinement"]["adapter"] == {"path": str(refining), "strength": "0.8"}
    assert manifest["refinement"]["upsampler_sha256"] == digest(upsampler)
    assert manifest["seconds"]["refine"] > 0
    assert probe(tmp_path / "out.mp4").video.frames == 20


def test_options_of_a_second_stage_need_one(clip: Path, tmp_path: Path, upsampler: Path, capsys) -> None:
    base = ["dub", "-i", str(clip), "-o", str(tmp_path / "o.mp4"), "-p", PROMPT]
    for extra, code, said in (
        (["--upsampler", str(upsampler)], EXIT_USAGE, "--upsampler without a second stage"),
        (["--two-stage"], EXIT_USAGE, "without --upsampler"),
        (["--two-stage", "lipdub", "--upsampler", "nowhere.safetensors"], EXIT_MISSING, "does not exist"),
        (["--refine-keep-adapter"], EXIT_USAGE, "second stage"),
        (["--profile", "lipdbu", "-a", "x"], EXIT_USAGE, "try: lipdub"),
        (["--profile", "lipdub"], EXIT_USAGE, "without --adapter"),
        (["--parallel"], EXIT_USAGE, "torchrun"),
    ):
        assert run([*base, *extra]) == code, extra
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "extra", [["--memory", "auto"], ["--memory", "16", "--cache", "fp8", "--reference", "isolated"]]
)
def test_memory_is_chosen_and_told(clip: Path, tmp_path: Path, extra: list[str], capsys) -> None:
    dub(clip, tmp_path / "plain.mp4", *extra[2:])
    dub(clip, tmp_path / "out.mp4", *extra)
    assert "memory: " in capsys.readouterr().err
    cache = "fp8" if "fp8" in extra else "device"
    assert json.loads((tmp_path / "out.mp4.json").read_text())["memory"]["cache"] == cache
    assert digest(tmp_path / "plain.mp4") == digest(tmp_path / "out.mp4")


def test_a_kernel_that_is_not_here_is_replaced_in_one_line(clip: Path, tmp_path: Path, capsys) -> None:
    dub(clip, tmp_path / "plain.mp4")
    capsys.readouterr()
    dub(clip, tmp_path / "out.mp4", "--attention", "flash3")
    lines = [line for line in capsys.readouterr().err.splitlines() if "--attention flash3 cannot be used" in line]
    assert len(lines) == 1 and "native attention instead" in lines[0]
    assert digest(tmp_path / "plain.mp4") == digest(tmp_path / "out.mp4")


def test_dry_run_plans_and_touches_nothing(clip: Path, tmp_path: Path, upsampler: Path, capsys) -> None:
    options = ["--dry-run", "--two-stage", "lipdub", "--upsampler", str(upsampler), "--reference", "isolated"]
    dub(clip, tmp_path / "out.mp4", *options)
    out = capsys.readouterr().out
    assert "stage 1" in out and "stage 2" in out and "2 passes" in out and "3 passes" in out
    assert "reference isolated with cache" in out and "free on" in out
    assert not (tmp_path / "out.mp4").exists()


def test_a_dub_that_cannot_fit_is_refused_before_it_begins(clip: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from justdub.backbone import checkpoint, memory

    monkeypatch.setattr(memory, "free_bytes", lambda device: 10 * 2**20)
    monkeypatch.setattr(checkpoint, "load", lambda *_, **__: pytest.fail("loaded"))
    arguments = ["dub", "-i", str(clip), "-o", str(tmp_path / "o.mp4"), "-p", PROMPT]
    assert run(arguments) == EXIT_MISSING
    error = capsys.readouterr().err
    assert "not enough memory" in error and "10 MiB are free; try: " in error
    assert error.splitlines()[-1].startswith("justdub: error: ")


def test_running_out_of_memory_is_one_line(clip: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    import torch

    from justdub.dubbing import pipeline

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr(pipeline, "sample", full)
    arguments = ["dub", "-i", str(clip), "-o", str(tmp_path / "o.mp4"), "-p", PROMPT, "-q"]
    assert run(arguments) == EXIT_MISSING
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("justdub: error: not enough memory to denoise") and "--memory" in last
    assert not (tmp_path / "o.mp4").exists()
