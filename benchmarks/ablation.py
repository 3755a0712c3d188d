"""Adapters of one recipe, changed in one thing at a time, trained on several seeds and measured on the same clips.

    python benchmarks/ablation.py benchmarks/ablations/rules.yaml            # goes on where it stopped
    python benchmarks/ablation.py benchmarks/ablations/rules.yaml --table    # only the table of what is there

A config names the recipe (of `train_lora.py`), the variants (settings by their dotted names, as of `--set`), the seeds
and what is measured. Results go beside the config: `NAME.json` with every run, `NAME.md` with means over the seeds,
the lowest and the highest seed in brackets. Runs of one config are spread over `workers` processes of a core each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from justdub import jobs
from justdub.errors import JustDubError

COLUMNS = {
    "word_accuracy": ("new words right", "%"),
    "leaked": ("old words leaked", "%"),
    "outside": ("error outside the mouth", ""),
    "face": ("face likeness", ""),
    "voice": ("voice likeness", ""),
    "voice_found": ("voice retrieved", "%"),
    "lips_sound": ("lips / sound", ""),
    "lips_articulation": ("lips / articulation", ""),
    "sync_within_1": ("sync within 1 frame", "%"),
}


@dataclass(frozen=True)
class MeasureSettings:
    """Clips of the held-out split, steps and guidance of the dubs."""

    clips: int = 30
    steps: int | None = None
    guidance: float | None = None
    audio_guidance: float | None = None


@dataclass(frozen=True)
class Ablation:
    """out: folder of the runs. recipe: YAML of a training job. common, variants: changes to it, as of `--set`.
    base: also measure the backbone without an adapter."""

    out: str
    recipe: str
    variants: dict[str, tuple[str, ...]]
    common: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2
    base: bool = True
    measure: MeasureSettings = field(default_factory=MeasureSettings)


def train(job: Ablation, variant: str, seed: int) -> Path:
    """Train one run, or go on with it; returns its adapter."""
    from justdub.training import run as training
    from justdub.training.config import TrainJob

    name = variant.replace(",", "").replace(" ", "_")
    out = Path(job.out) / f"{name}-{seed}"
    own = (f"out={out}", f"train.seed={seed}", "train.threads=1")
    settings = jobs.load(TrainJob, Path(job.recipe), [*job.common, *job.variants[variant], *own])
    adapter = out / f"{settings.adapter.name}.safetensors"
    if not adapter.exists():
        training.run(settings, resume="auto" if (out / "checkpoints").exists() else "")
    return adapter


def measure(job: Ablation, adapter: Path | None) -> dict[str, Any]:
    """Figures of one adapter, or of the backbone alone."""
    from justdub.dubbing.pipeline import DubPipeline
    from justdub.dubbing.settings import DubSettings
    from justdub.evaluation.world import dubs, heldout, judges
    from justdub.lora.files import read

    asked = job.measure
    settings = DubSettings(steps=asked.steps, guidance=asked.guidance, audio_guidance=asked.audio_guidance)
    rows = [dubs.Adapter("row", read(adapter))] if adapter else []
    found = dubs.run(
        DubPipeline.from_pretrained("mini"), judges.load(), heldout.Tasks(asked.clips), adapters=rows,
        controls=adapter is None, settings=settings,
    ).plain()  # fmt: skip
    figures = found["rows"]["row" if adapter else "base"]
    return {name: figures[name]["value"] for name in COLUMNS}


def one(job: Ablation, variant: str, seed: int) -> tuple[str, int, dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    adapter = train(job, variant, seed) if variant in job.variants else None
    trained = time.perf_counter()
    figures = measure(job, adapter)
    seconds = {"training": round(trained - began, 1), "measuring": round(time.perf_counter() - trained, 1)}
    return variant, seed, {"figures": figures, "seconds": seconds}


def table(job: Ablation, runs: dict[str, dict[str, Any]]) -> str:
    """Means over the seeds with the lowest and the highest, a row for each variant."""
    lines = ["| | seeds | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|" + "---|" * (len(COLUMNS) + 1))
    for variant in (*job.variants, *(["no training"] if job.base else [])):
        found = [run["figures"] for name, run in runs.items() if name.rsplit("-", 1)[0] == variant]
        if found:
            cells = [_cell([run[name] for run in found], unit) for name, (_, unit) in COLUMNS.items()]
            lines.append(f"| {variant} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float], unit: str) -> str:
    if unit == "%":
        values = [100 * value for value in values]
    digits = 1 if unit == "%" or max(values) > 2 else 2
    mean, ends = statistics.fmean(values), f" ({min(values):.{digits}f}, {max(values):.{digits}f})"
    return f"{mean:.{digits}f}{unit and ' ' + unit}{ends if len(values) > 1 else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--table", action="store_true", help="only write and print the table")
    options = parser.parse_args()
    job = jobs.build(Ablation, yaml.safe_load(options.config.read_text(encoding="utf-8")))
    results = options.config.with_suffix(".json")
    runs = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    wanted = [(variant, seed) for seed in job.seeds for variant in job.variants]
    wanted += [("no training", 0)] if job.base else []
    missing = [] if options.table else [both for both in wanted if f"{both[0]}-{both[1]}" not in runs]
    with ProcessPoolExecutor(job.workers, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(one, job, *both) for both in missing]):
            variant, seed, found = future.result()
            runs[f"{variant}-{seed}"] = found
            partial = results.with_suffix(".part")
            partial.write_text(json.dumps(dict(sorted(runs.items())), indent=1) + "\n", encoding="utf-8")
            partial.replace(results)
            sys.stderr.write(f"{variant}, seed {seed}: {found['seconds']}; {len(runs)} of {len(wanted)}\n")
    text = table(job, runs)
    options.config.with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JustDubError as error:
        sys.exit(f"ablation: error: {error}")
