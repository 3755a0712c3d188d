"""Held-out dubs as files, read back by the evaluation as a user's folders are."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader")

from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.errors import BadInputError
from justdub.evaluation import results, suite, table
from justdub.evaluation.settings import EvalSettings
from justdub.evaluation.world import files, heldout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = []
    pipe = DubPipeline.from_pretrained("mini", device="cpu")
    settings = DubSettings(steps=1, guidance=1, audio_guidance=1)
    out = files.write(
        tmp_path_factory.mktemp("world") / "dubs", pipe, heldout.Tasks(2), settings, lambda *done: seen.append(done)
    )
    assert seen == [(1, 2), (2, 2)]
    return out


def test_the_evaluation_reads_them(folder: Path, tmp_path: Path) -> None:
    chosen = {"texts": str(folder / "texts.csv"), "masks": str(folder / "masks"), "truth": str(folder / "truth")}
    keys = ("success", "streams_kept", "duration_error", "psnr", "psnr_frame", "mcd")
    found = suite.run(
        EvalSettings(str(folder / "source"), str(folder / "dubbed"), str(tmp_path), metrics=keys, controls=(), **chosen)
    )
    assert not found.faults and not table.not_computed(found.system, found)
    means = {key: one.mean for key, one in results.summary(found.system, found).items()}
    assert means["success"] == means["streams_kept"] == 100 and means["duration_error"] == 0
    assert all(clip.text and clip.language for clip in found.system.clips)


def test_truth_is_the_source_where_nothing_may_change(folder: Path, tmp_path: Path) -> None:
    chosen = EvalSettings(
        str(folder / "source"), str(folder / "truth"), str(tmp_path), masks=str(folder / "masks"),
        metrics=("psnr", "psnr_frame"), controls=(),
    )  # fmt: skip
    for clip in suite.run(chosen).system.clips:
        assert clip.outcomes["psnr"] > clip.outcomes["psnr_frame"] + 10


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="cannot be made"):
        files.write(tmp_path / "file", None, None)
