"""Part `swap`: an adapter of every linear module is replaced by another one from a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from benchmarks.ltx2 import models
from benchmarks.ltx2.clock import Way
from benchmarks.ltx2.report import Row
from benchmarks.ltx2.run import Run
from benchmarks.ltx2.work import Work
from justdub.backbone.checkpoint import Backbone, Card
from justdub.backbone.transformer import JointTransformer
from justdub.lora import files
from justdub.lora.config import MODULES
from justdub.lora.factors import Factors
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.rack import AdapterRack

PART, DTYPE = "swap", "bf16"


def rows(run: Run) -> Iterator[Row]:
    yield from run.guarded(PART, "all ways", partial(_swaps, run), dtype=DTYPE)


def _swaps(run: Run) -> Iterator[Row]:
    module = models.transformer(run.scale, run.device)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.safetensors" for name in ("first", "second")]
        for seed, path in enumerate(paths):
            _write(path, module, run.rank, seed)
        nothing: Any = None  # parts of a backbone that adapters do not touch
        joint = JointTransformer(module)
        rack = AdapterRack(Backbone(Card(), Path(folder), "", joint, nothing, nothing, nothing, nothing))
        rack.prepare_swaps(run.rank)
        read = [files.read(path) for path in paths]
        moved = Work(0, 2 * sum(f.down_rI.nbytes + f.up_Or.nbytes for f in read[0].modules.values()))
        note = f"rank {run.rank}, {paths[0].stat().st_size / 2**20:.0f} MiB, {len(read[0].modules)} modules"
        state = {"name": rack.load(read[0])}
        order, paths_order = cycle([read[1], read[0]]), cycle([paths[1], paths[0]])

        def swap(source: Any) -> None:
            state["name"] = rack.swap(state["name"], source)

        yield from run.measure(
            PART,
            Way("swap, file read before", lambda: swap(next(order)), moved, note=note),
            Way("swap, file read too", lambda: swap(next(paths_order)), moved, note=note),
            Way("read the file", lambda: files.read(paths[0]), note=note),
            dtype=DTYPE,
        )
        swap(read[1])
        _check(module, read[1])


def _write(path: Path, module: Any, rank: int, seed: int) -> None:
    """A file with random factors of every linear module of the blocks."""
    torch.manual_seed(seed)
    factors = {}
    for block in range(len(module.transformer_blocks)):
        for name in MODULES:
            full = f"transformer_blocks.{block}.{name}"
            linear = module.get_submodule(full)
            down_rI = torch.randn(rank, linear.in_features, device=linear.weight.device, dtype=torch.bfloat16)
            up_Or = torch.randn(linear.out_features, rank, device=linear.weight.device, dtype=torch.bfloat16)
            factors[full] = Factors(down_rI.cpu(), up_Or.cpu() * 1e-3)
    files.write(path, factors, AdapterMetadata(rank=rank, alpha=float(rank)))


def _check(module: Any, adapter: files.AdapterFile) -> None:
    """The weights in place are the file's.

    Raises:
        RuntimeError: they are not.
    """
    for name, factors in adapter.modules.items():
        layer = module.get_submodule(name)
        for half, expected in ((layer.lora_A, factors.down_rI), (layer.lora_B, factors.up_Or)):
            (found,) = (one.weight for one in half.values())
            if not torch.equal(found.cpu(), expected.to(found.dtype)):
                raise RuntimeError(f"{name} does not hold the adapter that was swapped in")
