"""Everything that can be wrong with a call: the exit code, exactly one line, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import clips
import pytest
import torch
from adapter_files import write_adapter
from safetensors.torch import save_file

from justdub.cli.main import run
from justdub.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_MISSING, EXIT_USAGE

PROMPT = 'The woman is speaking French, saying: "Bonjour"'
FAST = ["--steps", "1", "--guidance", "1", "--audio-guidance", "1", "--quiet"]

Maker = Callable[[Path], Path]


def tiny(path: Path) -> Path:
    return clips.make_clip(path, seconds=0.4)


def zero_length(path: Path) -> Path:
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-frames:v", "0", "-c:v", "libx264", path)
    return path


def huge(path: Path) -> Path:
    clips.ffmpeg("-f", "lavfi", "-i", "color=size=8000x8000:rate=2:duration=1", "-c:v", "mpeg4", path)
    return path


def long(path: Path) -> Path:
    return clips.make_clip(path, rate="5", seconds=21, size=(64, 64), audio=None)


def empty(path: Path) -> Path:
    path.touch()
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


INPUTS: dict[str, tuple[Maker, str]] = {
    "missing": (lambda p: p, "no such file"),
    "empty": (empty, "empty"),
    "no moov": (clips.broken_no_index, "moov"),
    "cut in half": (clips.broken_half, "truncated"),
    "text": (clips.broken_text, "text"),
    "zero-length": (zero_length, ""),
    "one frame": (clips.one_frame, "1 video frame"),
    "8000x8000": (huge, "8000x8000"),
    "directory": (folder, "folder"),
    "21 s": (long, "21.0 s"),
    "playlist": (lambda p: clips.broken_playlist(p, tiny(p.with_name("t.mp4"))), "playlist"),
}
OTHER_SUFFIX: dict[str, tuple[str, Maker, str]] = {
    "audio-only": ("sound.m4a", clips.audio_only, "no video"),
    "audio with cover": ("sound.mp3", lambda p: clips.audio_only(p, cover=True), "no video"),
    "png": ("picture.png", clips.image, "still picture"),
    "jpg": ("picture.jpg", clips.image, "still picture"),
}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run a call that must fail; returns its one line. Nothing may appear in the folder that was not there before."""

    def check(arguments: list[str], code: int, *contains: str) -> str:
        before = sorted(str(p) for p in tmp_path.rglob("*"))
        capsys.readouterr()
        assert run(["dub", *arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = [line for line in captured.err.splitlines() if "error:" in line]
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("justdub: error: ")
        assert captured.err.splitlines()[-1] == lines[0], "the error is the last thing that is said"
        assert "Traceback" not in captured.err
        assert len(lines[0]) < 600
        for text in contains:
            assert text in lines[0], lines[0]
        assert sorted(str(p) for p in tmp_path.rglob("*")) == before
        return lines[0]

    return check


@pytest.mark.parametrize("case", list(INPUTS))
def test_input(case: str, tmp_path: Path, refused) -> None:
    make, contains = INPUTS[case]
    clip = make(tmp_path / "clip.mp4")
    refused(["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT], EXIT_BAD_INPUT, "clip.mp4", contains)


@pytest.mark.parametrize("case", list(OTHER_SUFFIX))
def test_input_that_is_no_video(case: str, tmp_path: Path, refused) -> None:
    name, make, contains = OTHER_SUFFIX[case]
    clip = make(tmp_path / name)
    refused(["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT], EXIT_BAD_INPUT, name, contains)


def test_unreadable_input(tmp_path: Path, refused) -> None:
    clip = tiny(tmp_path / "clip.mp4")
    clip.chmod(0)
    arguments = ["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT]
    if os.geteuid() != 0:
        refused(arguments, EXIT_BAD_INPUT, "permission")
        return
    run(["dub", *arguments[:2], "-o", str(tmp_path / "x.bad"), "-p", PROMPT])  # imports while root still may
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.owner() == "root" and parent != Path("/") and str(parent).startswith("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o755)
    os.seteuid(65534)
    try:
        refused(arguments, EXIT_BAD_INPUT, "permission")
    finally:
        os.seteuid(0)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tiny(tmp_path / "clip.mp4")


def test_output_folder_missing(clip: Path, tmp_path: Path, refused) -> None:
    refused(["-i", str(clip), "-o", str(tmp_path / "no" / "out.mp4"), "-p", PROMPT], EXIT_USAGE, "mkdir")


def test_output_folder_unwritable(clip: Path, refused) -> None:
    """Nobody can write there, root included."""
    refused(["-i", str(clip), "-o", "/proc/out.mp4", "-p", PROMPT], EXIT_BAD_INPUT, "/proc")


@pytest.mark.parametrize("spelling", ["clip.mp4", "./clip.mp4", "link.mp4"])
def test_output_equals_input(spelling: str, clip: Path, tmp_path: Path, refused, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link.mp4").symlink_to("clip.mp4")
    content = clip.read_bytes()
    refused(["-i", "clip.mp4", "-o", spelling, "-p", PROMPT], EXIT_USAGE, "input")
    assert clip.read_bytes() == content


def test_output_is_a_directory(clip: Path, tmp_path: Path, refused) -> None:
    (tmp_path / "dir.mp4").mkdir()
    refused(["-i", str(clip), "-o", str(tmp_path / "dir.mp4"), "-p", PROMPT], EXIT_USAGE, "dir.mp4")


@pytest.mark.parametrize("name", ["out", "out.avi", "out.gif"])
def test_output_suffix(name: str, clip: Path, tmp_path: Path, refused) -> None:
    refused(["-i", str(clip), "-o", str(tmp_path / name), "-p", PROMPT], EXIT_USAGE, ".mp4")


@pytest.mark.parametrize(
    ("arguments", "contains"),
    [
        (["-p", ""], "empty"),
        (["-p", "   "], "empty"),
        (["-p", "ab" * 10_000], "20000 characters"),
        (["--text", "Hallo", "-l", "klingon"], "klingon"),
        (["--text", "Hallo"], "--language"),
        (["--text", "", "-l", "fr"], "empty"),
        (["-p", PROMPT, "--text", "Hallo", "-l", "de"], "both"),
        ([], "neither"),
        (["-p", PROMPT, "--bogus"], "--bogus"),
        (["-p", PROMPT, "--steps", "many"], "many"),
        (["-p", PROMPT, "--steps", "0"], "0 steps"),
        (["-p", PROMPT, "--guidance", "nan"], "guidance nan"),
        (["-p", PROMPT, "--guidance", "-3"], "guidance -3"),
        (["-p", PROMPT, "--seed", "-1"], "seed -1"),
        (["-p", PROMPT, "--seed", "1.5"], "1.5"),
        (["-p", PROMPT, "--rescale", "2"], "2"),
        (["-p", PROMPT, "--size", "big"], "big"),
        (["-p", PROMPT, "--steps", "5", "--schedule", "distilled"], "distilled"),
        (["-p", PROMPT, "--reference", "both"], "both"),
        (["-p", PROMPT, "--dtype", "int3", *FAST], "int3"),
    ],
)  # fmt: skip
def test_arguments(arguments: list[str], contains: str, clip: Path, tmp_path: Path, refused) -> None:
    refused(["-i", str(clip), "-o", str(tmp_path / "out.mp4"), *arguments], EXIT_USAGE, contains)


def test_missing_arguments(refused) -> None:
    refused(["-p", PROMPT], EXIT_USAGE, "--input")
    refused(["-i", "-x.mp4", "-o", "o.mp4", "-p", PROMPT], EXIT_USAGE, "--option=VALUE")


def test_a_size_off_the_grid(clip: Path, tmp_path: Path, refused) -> None:
    arguments = ["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT, *FAST]
    refused([*arguments, "--size", "100x96"], EXIT_USAGE, "try: --size 96x96")


def test_too_many_tokens(clip: Path, tmp_path: Path, refused) -> None:
    arguments = ["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT + "я" * 600, *FAST]
    refused(arguments, EXIT_USAGE, "tokens")


def test_a_prompt_without_dialogue_is_a_warning(clip: Path, tmp_path: Path, capsys) -> None:
    assert run(["dub", "-i", str(clip), "-o", str(tmp_path / "o.mp4"), "-p", "A woman talks", *FAST]) == EXIT_DONE
    assert "quotes no dialogue" in capsys.readouterr().err


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "contains"),
    [
        (["--backbone", "/no/such/folder"], "/no/such/folder"),
        (["--backbone", "Lightricks/LTX-2"], "hf download"),
        (["--device", "warp9"], "warp9"),
        (["--adapter", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_missing_models(arguments: list[str], contains: str, clip: Path, tmp_path: Path, refused) -> None:
    base = ["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT, *FAST]
    refused([*base, *arguments], EXIT_MISSING, contains)


def text_adapter(path: Path) -> None:
    path.write_text("not a tensor in sight")


def pickled_adapter(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


def torch_adapter(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path)


def foreign_adapter(path: Path) -> None:
    tensors = {f"lora_unet_down_blocks_0.lora_{f}.weight": torch.zeros(4, 4) for f in "AB"}
    save_file(tensors, path)


def no_lora(path: Path) -> None:
    save_file({"conv.weight": torch.zeros(4, 4)}, path)


ADAPTERS = {
    "not safetensors": (text_adapter, "cannot be read"),
    "pickle": (pickled_adapter, "pickle"),
    "torch file": (torch_adapter, "pickle"),
    "matches nothing": (foreign_adapter, "names no linear module of LTX-2"),
    "no LoRA": (no_lora, "no LoRA factors"),
    "another width": (lambda p: write_adapter(p, width_factor=2), "another width"),
}


@pytest.mark.parametrize("case", list(ADAPTERS))
def test_adapter(case: str, clip: Path, tmp_path: Path, refused) -> None:
    make, contains = ADAPTERS[case]
    make(tmp_path / "adapter.safetensors")
    adapter = str(tmp_path / "adapter.safetensors")
    base = ["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT, *FAST]
    refused([*base, "-a", adapter], EXIT_BAD_INPUT, "adapter.safetensors", contains)


# -- the unlucky middle -----------------------------------------------------------------------------------------------


def test_interrupted_while_denoising(clip: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from justdub import flow
    from justdub.errors import EXIT_INTERRUPTED

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(flow, "euler_step", interrupt)
    arguments = ["dub", "-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT, *FAST]
    assert run(arguments) == EXIT_INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_prediction_that_is_not_finite(clip: Path, tmp_path: Path, refused) -> None:
    adapter = write_adapter(tmp_path / "wild.safetensors", scale=1e30)
    base = ["-i", str(clip), "-o", str(tmp_path / "out.mp4"), "-p", PROMPT, *FAST]
    refused([*base, "-a", str(adapter)], 1, "not finite", "step 1 of 1")


@pytest.fixture
def large_clip(tmp_path: Path) -> Path:
    return clips.make_clip(tmp_path / "clip.mp4", seconds=0.8, size=(640, 480), audio=None)


@pytest.fixture
def small_disk(large_clip: Path, tmp_path: Path):
    """A folder with room for very little: a tiny tmpfs where root may mount one, else a limit on file sizes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        yield folder
        subprocess.run(["umount", folder], check=True)
        return
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # inherited by ffmpeg: writing then fails instead of killing it
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_full(large_clip: Path, small_disk: Path, capsys) -> None:
    arguments = ["dub", "-i", str(large_clip), "-o", str(small_disk / "out.mp4"), "-p", PROMPT, *FAST]
    assert run(arguments) == EXIT_BAD_INPUT
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("justdub: error: no room left in")
    assert list(small_disk.iterdir()) == []
