"""`justdub adapter`: what each action prints and writes, and the exit code of what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_files import deltas, random_factors, save
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

from justdub.backbone import checkpoint, untrained
from justdub.cli.main import run
from justdub.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_MISSING, EXIT_USAGE
from justdub.lora.factors import Factors
from justdub.lora.files import read
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules

NAMES = [f"transformer_blocks.{block}.{module}" for block in range(2)
         for module in ("attn1.to_q", "attn2.to_v", "audio_ff.net.2", "video_to_audio_attn.to_out.0")]  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "base"
    untrained.write(folder, untrained.CARD, size=untrained.Size(layers=2))
    return folder


@pytest.fixture(scope="module")
def shelf(backbone: Path) -> Path:
    """A shelf with two adapters for the backbone, `fr` with a card, and one of zeros."""
    shelf = backbone.parent / "shelf"
    model = LTX2VideoTransformer3DModel.from_pretrained(backbone / "transformer")
    for seed, name in enumerate(("fr", "de")):
        (shelf / name).mkdir(parents=True)
        said = AdapterMetadata(
            rules=SequenceRules(reference="isolated"), languages=(name,), base="untrained", generation="2.0",
            fingerprint=checkpoint.fingerprint(backbone), rank=3, alpha=6.0, steps=12, licence="Apache-2.0",
        )  # fmt: skip
        save(shelf / name / "adapter.safetensors", random_factors(model, NAMES, seed=seed), said)
    (shelf / "fr" / "README.md").write_text("# Into French\n", encoding="utf-8")
    zeros = {n: Factors(f.down_rI, torch.zeros_like(f.up_Or)) for n, f in random_factors(model, NAMES).items()}
    save(shelf.parent / "zeros.safetensors", zeros)
    return shelf


@pytest.fixture
def call(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run an action in an empty folder, with the shelf; returns (standard output, standard error)."""
    monkeypatch.setenv("JUSTDUB_ADAPTERS", str(shelf))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = EXIT_DONE) -> tuple[str, str]:
        capsys.readouterr()
        assert run(["adapter", *arguments]) == code
        captured = capsys.readouterr()
        assert code == EXIT_DONE or captured.err.count("\n") == 1
        return captured.out, captured.err

    return call


def test_list(call, shelf: Path) -> None:
    out, _ = call("list")
    (line,) = [line for line in out.splitlines() if line.startswith("fr ")]
    assert line.split()[1:4] == ["fr", "untrained", "3"] and line.endswith("Into French")
    entries = {entry["name"]: entry for entry in json.loads(call("list", "--json")[0])}
    assert entries["de"]["languages"] == ["de"]
    assert entries["fr"]["path"] == str(shelf / "fr" / "adapter.safetensors")


def test_info(call, backbone: Path) -> None:
    out, _ = call("info", "fr")
    assert "8 modules, rank 3" in out and "licence: Apache-2.0" in out and "absolute" in out
    absolute = json.loads(call("info", "fr", "--json")[0])
    relative = json.loads(call("info", "fr", "--json", "-b", str(backbone))[0])
    assert absolute["metadata"]["alpha"] == 6.0
    assert [(row["group"], row["family"], row["modules"]) for row in relative["changes"]] == [
        ("video", "attention", 2), ("video", "text attention", 2), ("audio", "feed-forward", 2),
        ("cross", "cross-modal attention", 2)]  # fmt: skip
    assert all(a["median"] != r["median"] > 0 for a, r in zip(absolute["changes"], relative["changes"], strict=True))
    assert "does not exist" in call("info", "no/such", code=EXIT_MISSING)[1]
    assert "try: fr" in call("info", "frr", code=EXIT_MISSING)[1]


def test_verify(call, backbone: Path, shelf: Path) -> None:
    out, _ = call("verify", "fr", "-b", str(backbone), "--json")
    found = json.loads(out)
    assert (found["modules"], found["zero"]) == (8, 0)
    assert found["video"] > 1e-3 and found["audio"] > 1e-3
    zeros = str(shelf.parent / "zeros.safetensors")
    assert "every B is zero" in call("verify", zeros, "-b", str(backbone), code=EXIT_BAD_INPUT)[1]
    adapter = read(shelf / "fr" / "adapter.safetensors")
    broken = dict(adapter.modules) | {NAMES[0]: Factors(adapter.modules[NAMES[0]].down_rI * torch.inf,
                                                        adapter.modules[NAMES[0]].up_Or)}  # fmt: skip
    save(Path("broken.safetensors"), broken)
    assert "not finite in 1 of 16" in call("verify", "broken.safetensors", "-b", str(backbone), code=EXIT_BAD_INPUT)[1]
    hidden = {n: Factors(f.down_rI, f.up_Or * 1e-30) for n, f in adapter.modules.items()}
    save(Path("hidden.safetensors"), hidden)
    assert "the same without it" in call("verify", "hidden.safetensors", "-b", str(backbone), code=EXIT_BAD_INPUT)[1]
    save(Path("other.safetensors"), adapter.modules, AdapterMetadata(base="19B", fingerprint="f" * 16))
    assert "--any-base" in call("verify", "other.safetensors", "-b", str(backbone), code=EXIT_BAD_INPUT)[1]
    assert "not on untrained" in call("verify", "other.safetensors", "-b", str(backbone), "--any-base")[1]


@pytest.mark.parametrize("world", ["comfyui", "diffusers", "peft", "kohya"])
def test_convert(world: str, call, shelf: Path) -> None:
    output = "out" if world == "peft" else "out.safetensors"
    call("convert", "fr", "--to", world, "-o", output)
    before, after = read(shelf / "fr" / "adapter.safetensors"), read(output)
    assert after.world == world and after.metadata == before.metadata
    assert all(torch.equal(delta, deltas(before)[name]) for name, delta in deltas(after).items())


def test_convert_may_say_how_it_is_best_run(call, shelf: Path) -> None:
    call(
        "convert",
        "fr",
        "--to",
        "comfyui",
        "-o",
        "a.safetensors",
        "--sampling",
        "audio_guidance=2",
        "--sampling",
        "stg=1",
    )
    call("convert", "a.safetensors", "--to", "comfyui", "-o", "b.safetensors", "--sampling", "stg=0.5")
    assert read("b.safetensors").metadata.sampling == {"audio_guidance": 2.0, "stg": 0.5}
    for wrong, said in (("cfg=2", "cfg"), ("stg", "NAME=VALUE"), ("rescale=3", "rescale 3")):
        options = ("-o", "c.safetensors", "--sampling", wrong)
        assert said in call("convert", "fr", "--to", "comfyui", *options, code=EXIT_USAGE)[1]
    assert not Path("c.safetensors").exists()


def test_convert_refuses_before_it_writes(call, shelf: Path) -> None:
    Path("there").mkdir()
    assert "exists already" in call("convert", "fr", "--to", "peft", "-o", "there", code=EXIT_USAGE)[1]
    assert "unknown output format" in call("convert", "fr", "--to", "kohya", "-o", "x.ckpt", code=EXIT_USAGE)[1]
    own = str(shelf / "fr" / "adapter.safetensors")
    assert "also an input" in call("convert", "fr", "--to", "kohya", "-o", own, code=EXIT_USAGE)[1]
    assert [path.name for path in Path().iterdir()] == ["there"]


def test_merge(call, backbone: Path, shelf: Path) -> None:
    out, _ = call("merge", "fr:0.5", "-b", str(backbone), "-o", "merged", "--dtype", "float32")
    assert "8 modules changed; rounding took 0.00% of the change" in out
    assert checkpoint.Card.read(Path("merged")).name == "untrained + fr:0.5"
    assert call("merge", "fr", "-b", str(backbone), "-o", "merged", code=EXIT_USAGE)[1].count("exists already") == 1


def test_blend_and_diff(call, shelf: Path) -> None:
    out, _ = call("blend", "fr:0.8", "de:video=0,audio=1,cross=0.5", "-o", "both.safetensors", "--dtype", "float32")
    assert "8 modules, rank 6, error 0.00%" in out
    both = read("both.safetensors")
    assert both.languages == ("fr", "de")
    assert [source["strength"] for source in json.loads(both.header["justdub.blend"])] == [
        "0.8", "video=0,audio=1,cross=0.5"]  # fmt: skip
    out, _ = call("blend", "fr", "de", "-o", "small.safetensors", "--rank", "3")
    assert "rank 3" in out and "error 0.00%" not in out
    assert call("blend", "fr", "-o", "x.safetensors", "--rank", "0", code=EXIT_USAGE)[1].startswith("justdub: error")
    rows = {
        (row["group"], row["family"]): row
        for row in json.loads(call("diff", "fr", "both.safetensors", "--json")[0])["changes"]
    }
    assert rows["video", "attention"]["cosine"] == pytest.approx(1, abs=1e-4)  # there `de` has strength 0
    assert rows["video", "attention"]["ratio"] == pytest.approx(0.8, abs=1e-4)
    assert rows["audio", "feed-forward"]["cosine"] < 0.9
    assert call("diff", "fr", "fr")[0].splitlines()[-1].split() == ["all", "all", "8", "0", "0", "1.000", "1", "0"]
