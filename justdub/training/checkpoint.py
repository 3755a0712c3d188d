"""The full state of a run on disk, so that a run that was stopped goes on as if it had not been.

    OUT/checkpoints/step-000250/
        adapter.safetensors     for use, as any adapter
        parameters.safetensors  what is trained, float32, and its running mean
        optimizer.pt            state of the optimizer (read with weights_only)
        run.json                step, settings, digests

The folder is written under another name and renamed: a run killed while saving leaves the previous states as they are.
"""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from justdub.errors import BadInputError, MissingError, UsageError

FORMAT = 1
_FREE = {("train", "steps")}  # settings that a resumed run may change


@dataclass(frozen=True)
class State:
    """step: updates done. parameters, means: by name; means empty without a running mean.

    run: recipe, data, backbone - what a resumed run must agree in; elapsed: seconds.
    """

    step: int
    parameters: dict[str, Tensor]
    means: dict[str, Tensor]
    optimizer: dict[str, Any]
    run: dict[str, Any]
    elapsed: float


def folder_of(out: Path, step: int) -> Path:
    return out / "checkpoints" / f"step-{step:06d}"


def write(out: Path, state: State, *, last: int, adapter: Any = None) -> Path:
    """Write a state and delete all but the newest `last` ones.

    Args:
        adapter: called with the path of the adapter file to write beside.
    """
    folder = folder_of(out, state.step)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {f"parameter.{name}": tensor for name, tensor in state.parameters.items()}
    tensors |= {f"mean.{name}": tensor for name, tensor in state.means.items()}
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        partial / "parameters.safetensors",
    )
    torch.save(state.optimizer, partial / "optimizer.pt")
    if adapter is not None:
        adapter(partial / "adapter.safetensors")
    head = {"format": FORMAT, "step": state.step, "elapsed": state.elapsed, "run": state.run}
    (partial / "run.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    if folder.exists():  # left by a run that was resumed from before it
        shutil.rmtree(folder)
    partial.replace(folder)
    for old in found(out)[:-last]:
        shutil.rmtree(old)
    return folder


def found(out: Path) -> list[Path]:
    """Complete states of a run, oldest first."""
    return sorted(path for path in (out / "checkpoints").glob("step-*") if (path / "run.json").is_file())


def choose(out: Path, resume: str) -> Path | None:
    """The folder that ``--resume`` means: `auto` (the newest, None when there is none yet) or a path.

    Raises:
        MissingError: the path holds no state.
    """
    if resume == "auto":
        states = found(out)
        return states[-1] if states else None
    path = Path(resume)
    if not (path / "run.json").is_file():
        raise MissingError(f"no state of a run in {path}", expected="OUT/checkpoints/step-N", remedy="--resume auto")
    return path


def read(folder: Path, run: dict[str, Any]) -> State:
    """Read a state and check that it belongs to this job.

    Raises:
        UsageError: it was made with other settings, which are named. BadInputError: it is damaged.
    """
    try:
        head = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        differing = differences(head["run"], run)
        if differing:
            raise UsageError(
                f"{folder} was made with other settings: {'; '.join(differing[:6])}",
                expected="the same job",
                remedy="another out, or change the settings back",
            )
        tensors = load_file(folder / "parameters.safetensors")
        optimizer = torch.load(folder / "optimizer.pt", weights_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise BadInputError(f"the state in {folder} is damaged: {error}", remedy="an earlier one") from error
    parts: dict[str, dict[str, Tensor]] = {"parameter": {}, "mean": {}}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        parts[kind][name] = tensor
    return State(head["step"], parts["parameter"], parts["mean"], optimizer, head["run"], head["elapsed"])


def differences(before: Any, now: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Dotted keys whose values differ, with both values."""
    if path in {("recipe", *free) for free in _FREE}:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [line for name in names for line in differences(before.get(name), now.get(name), (*path, name))]
    if before == now:
        return []
    return [f"{'.'.join(path).removeprefix('recipe.')} was {before!r}, is {now!r}"]
