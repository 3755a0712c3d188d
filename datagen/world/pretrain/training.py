"""The loop that trains every small model: one step after another, exactly resumable, with a plain log.

A run lives in a folder: `last.pt` (all state), `best.pt` (weights of the best validation) and `log.jsonl`. What
happens at a step depends on the settings and the step's number only, so stopping and resuming gives the same weights
bit for bit on one thread.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from datagen.world.pretrain.muon import Muon
from justdub.errors import BadInputError, UsageError

Figures = dict[str, float]
_TABLES = ("embed_tokens", "scale_shift_table", "registers")  # parameters that are lists of vectors
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast.

    Attributes:
        steps: of the whole run; the learning rates warm up for `warmup` steps, stay until the share `hold` of the run,
            then fall linearly to `floor` of themselves.
        lr: of matrices and kernels (Muon), adam_lr: of the rest. decay: weight decay of the matrices.
        average: decay of the running mean of the weights, which is what is validated and kept (0: the weights
            themselves). Early on the mean is over a tenth of the steps so far, so that it forgets the start.
        dtype: of the arithmetic, float32 or bfloat16. On a CPU bfloat16 is several times faster with matrix units for
            it (AMX) and slower without. The optimizer's weights are float32 either way.
        threads: of torch; 1 for bit-exact resuming. The `_every` are in steps.
    """

    steps: int = 2000
    lr: float = 3e-3
    adam_lr: float = 2e-3
    decay: float = 0.0
    warmup: int = 20
    hold: float = 0.5
    floor: float = 0.03
    average: float = 0.0
    dtype: str = "float32"
    seed: int = 0
    threads: int = 1
    log_every: int = 10
    checkpoint_every: int = 100
    validate_every: int = 200


def half_precision(settings: TrainSettings) -> torch.autocast:
    """Autocast on the CPU, if the settings ask for it: what models of convolutions train under."""
    return torch.autocast("cpu", DTYPES[settings.dtype], enabled=settings.dtype != "float32")


def rate(settings: TrainSettings, step: int) -> float:
    """Factor of the learning rates at a step, 0..1."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step / settings.steps - settings.hold) / max(1e-9, 1 - settings.hold)
    return 1 - (1 - settings.floor) * min(1.0, max(0.0, progress))


def train(
    module: nn.Module,
    loss_at: Callable[[int], tuple[Tensor, Figures]],
    settings: TrainSettings,
    folder: Path,
    *,
    job: dict,
    resume: bool = False,
    validate: Callable[[], Figures] | None = None,
    report: Callable[[dict], None] | None = None,
    stop_at: int | None = None,
) -> None:
    """Train `module` in place; afterwards it holds the best weights (the last ones without `validate`).

    Args:
        loss_at: the loss of a step and figures to log; must draw all randomness from the step's number.
        job: the whole job as plain values; a resumed run must agree in all but `train`'s steps and intervals.
        validate: figures, of which the higher "score" is the better.
        report: is given every line of the log. stop_at: leave after this many steps, as if interrupted.
    """
    torch.set_num_threads(settings.threads)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = DTYPES[settings.dtype]
    learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
    tables = {name: p for name, p in learned.items() if any(part in name for part in _TABLES)}
    optimizer = Muon(
        [p for name, p in learned.items() if name not in tables], tables.values(), settings.lr, settings.adam_lr,
        weight_decay=settings.decay, dtype=dtype,
    )  # fmt: skip
    kept = _Average(module, optimizer, settings.average)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    step, elapsed, best = 0, 0.0, -math.inf
    last = folder / "last.pt"
    if resume:
        state = _read(last, job)
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        kept.load(state["average"])
        step, elapsed, best = state["step"], state["elapsed"], state["best"]
    elif last.exists():
        raise UsageError(f"{folder} holds a run already", remedy="--resume, or another folder")
    log = _Log(folder / "log.jsonl", resume, step, report)
    started, since, sums = time.perf_counter() - elapsed, (time.perf_counter(), step), _Sums()
    module.train()
    while step < settings.steps and (stop_at is None or step < stop_at):
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * rate(settings, step)
        optimizer.zero_grad(set_to_none=True)
        loss, figures = loss_at(step)
        if not torch.isfinite(loss):
            raise BadInputError(f"the loss of step {step} is {loss.item()}", remedy="a lower train.lr")
        loss.backward()
        optimizer.step()
        kept.update(step)
        sums.add({"loss": float(loss.detach()), **figures})
        step += 1
        if step % settings.log_every == 0 or step == settings.steps:
            now = time.perf_counter()
            pace = (now - since[0]) / max(1, step - since[1])
            since = (now, step)
            log.write(
                {
                    "step": step, "of": settings.steps, **sums.mean(), "lr": optimizer.param_groups[0]["lr"],
                    "s_per_step": pace, "elapsed_s": now - started, "eta_s": pace * (settings.steps - step),
                }
            )  # fmt: skip
        if validate is not None and (step % settings.validate_every == 0 or step == settings.steps):
            module.eval()
            with kept.swapped():
                found = validate()
                if found["score"] > best:
                    best = found["score"]
                    _save(folder / "best.pt", {"step": step, "model": module.state_dict()})
            module.train()
            log.write({"step": step, "validation": found})
            since = (time.perf_counter(), step)
        if step % settings.checkpoint_every == 0 or step in (settings.steps, stop_at):
            state = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "best": best}
            _save(last, {**state, "average": kept.means, "elapsed": time.perf_counter() - started, "job": job})
    module.eval()
    if validate is not None and (folder / "best.pt").exists():
        restore(module, folder / "best.pt")
    else:
        kept.settle()


def restore(module: nn.Module, path: Path, *, mean: bool = True) -> None:
    """Load the weights of a run's `best.pt` or `last.pt`: their running mean for use, or themselves to go on from."""
    if not path.exists():
        raise UsageError(f"no {path}", remedy="train until the first validation or checkpoint")
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["model"] | (state.get("average", {}) if mean else {}))
    module.eval()


class _Average:
    """The running mean of a module's learned weights, float32; with decay 0 the weights themselves."""

    def __init__(self, module: nn.Module, optimizer: Muon, decay: float) -> None:
        self.learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.optimizer, self.decay = optimizer, decay
        self.means = {name: p.detach().float().clone() for name, p in self.learned.items()} if decay else {}

    def load(self, means: dict[str, Tensor]) -> None:
        for name, mean in self.means.items():
            mean.copy_(means[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.means:
            weights = [self.optimizer.weights(p) for p in self.learned.values()]
            torch._foreach_lerp_(list(self.means.values()), weights, 1 - min(self.decay, (1 + step) / (10 + step)))

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module holds the means inside, its own weights again afterwards."""
        own = {name: self.learned[name].detach().clone() for name in self.means}
        self.settle()
        try:
            yield
        finally:
            self._fill(own)

    def settle(self) -> None:
        """Put the means into the module."""
        self._fill(self.means)

    @torch.no_grad()
    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.learned[name].copy_(value)


class _Sums:
    """Means of figures between two lines of the log, each over the steps that have it."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, figures: Figures) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def mean(self) -> Figures:
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        self.values = {}
        return means


class _Log:
    """Appends JSON lines; a resumed run forgets the lines after its checkpoint."""

    def __init__(self, path: Path, resume: bool, step: int, report: Callable[[dict], None] | None) -> None:
        self.path, self.report = path, report
        lines = path.read_text().splitlines() if resume and path.exists() else []
        path.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= step))

    def write(self, line: dict) -> None:
        line = _rounded(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.report is not None:
            self.report(line)


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _read(path: Path, job: dict) -> dict:
    if not path.exists():
        raise UsageError(f"nothing to resume: no {path}", remedy="without --resume")
    state = torch.load(path, weights_only=True)
    free = {"steps", "log_every", "checkpoint_every", "validate_every", "threads"}

    def fixed(whole: dict) -> dict:
        return whole | {"train": {k: v for k, v in whole.get("train", {}).items() if k not in free}}

    before, now = fixed(state["job"]), fixed(job)
    if before != now:
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        raise UsageError(f"the run in {path.parent} had other settings in {', '.join(names)}", remedy="another folder")
    return state


def _save(path: Path, state: dict) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
