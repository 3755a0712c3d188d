"""The training of an adapter: updates, states, previews, a clean end.

What happens at an update follows from the settings and its number alone (`batches`), so that a resumed run gives the
same weights bit for bit on one device, and N processes compute what one would with N times the batch.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from justdub.backbone.checkpoint import Backbone
from justdub.backbone.text import TextContext, joined
from justdub.errors import EXIT_INTERRUPTED, BadInputError, JustDubError
from justdub.lora import inject
from justdub.lora.files import generation_of
from justdub.lora.files import read as read_adapter
from justdub.lora.files import write as write_adapter
from justdub.lora.metadata import AdapterMetadata
from justdub.training import checkpoint, optimizer
from justdub.training.batches import DROPOUT, Order, draw, random_stream
from justdub.training.config import TrainJob
from justdub.training.log import Log
from justdub.training.loss import Totals
from justdub.training.precompute import CachedPair, Encoded
from justdub.training.step import Example, Part, fast_attention, losses, parts

NAME = "trained"  # of the adapter inside of the transformer
Preview = Callable[[int], None]


class InterruptedRun(JustDubError):
    """The user stopped the run; its state was saved."""

    exit_code = EXIT_INTERRUPTED


class NonFiniteLoss(BadInputError):
    """The loss or the gradient of an update is not finite; the weights were left as they are."""


@dataclass(frozen=True)
class Outcome:
    """adapter: the file that was written. steps: updates done. loss: of the last line of the log."""

    adapter: Path
    steps: int
    seconds: float


class Trainer:
    """One run.

    Args:
        accelerator: accelerate's, which knows the processes and the device.
        encoded: what is trained on. report: is given every line of the log.
    """

    def __init__(
        self,
        job: TrainJob,
        backbone: Backbone,
        encoded: Encoded,
        accelerator: Any,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.job, self.backbone, self.encoded, self.accelerator, self.report = (
            job,
            backbone,
            encoded,
            accelerator,
            report,
        )
        self.joint, self.device = backbone.transformer, accelerator.device
        module = self.joint.module
        inject.inject(module, job.lora, NAME, job.train.seed)
        if job.start:
            self._start_from(Path(job.start))
        if job.train.checkpointing:
            self.joint.enable_gradient_checkpointing()
        named = list(inject.trained(module, NAME))
        self.optimizer = optimizer.build(named, job.optimizer)
        self.named = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.average = optimizer.Average(list(self.named.values()), job.optimizer.average)
        if accelerator.num_processes > 1:
            self.joint.call, self.optimizer = accelerator.prepare(module, self.optimizer)
        shapes = [(pair.cut, pair.frame_rate) for pair in encoded.pairs]
        self.mine = job.train.batch * job.train.accumulate  # samples of an update in this process
        self.order = Order(shapes, self.mine * accelerator.num_processes, job.train.seed)
        self.identity = {
            "recipe": job.recipe(),
            "data": encoded.digest(),
            "backbone": backbone.fingerprint,
            "processes": accelerator.num_processes,
        }

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self, *, resume: Path | None = None, preview: Preview | None = None, stop_at: int | None = None) -> Outcome:
        """Train until the job's steps are done, or `stop_at`, or a signal asks to stop.

        Raises:
            InterruptedRun: after SIGINT or SIGTERM; the state was saved.
            NonFiniteLoss: names the update's clips; nothing was changed or written.
        """
        job, out = self.job, Path(self.job.out)
        step, before = self._resume(resume) if resume else (0, 0.0)
        out.mkdir(parents=True, exist_ok=True)
        log = Log(out / "log.jsonl", step, self.report, self.accelerator.log if job.log.to else None)
        log_main = log if self.accelerator.is_main_process else None
        begun, saved = time.perf_counter() - before, step if resume else -1
        line_at, line_step = time.perf_counter(), step
        with _stop_requests() as asked:
            if preview and step == 0:
                self._show(preview, 0)
            while step < job.train.steps and (stop_at is None or step < stop_at):
                figures = self.update(step)
                step += 1
                log.add(**figures)
                if log_main and (step % job.log.every == 0 or step == job.train.steps):
                    now = time.perf_counter()
                    pace = (now - line_at) / (step - line_step)
                    line_at, line_step = now, step
                    log.write(
                        step,
                        of=job.train.steps,
                        s_per_step=pace,
                        elapsed_s=now - begun,
                        eta_s=pace * (job.train.steps - step),
                        **self._memory(),
                    )
                if step % job.checkpoint.every == 0 or step == job.train.steps or asked.is_set():
                    self._save(step, time.perf_counter() - begun)
                    saved = step
                if preview and job.preview.every and (step % job.preview.every == 0 or step == job.train.steps):
                    self._show(preview, step)
                    line_at, line_step = time.perf_counter(), step
                if asked.is_set() and step < job.train.steps:
                    raise InterruptedRun(
                        f"stopped after step {step} of {job.train.steps}; its state is in {out / 'checkpoints'}",
                        remedy="--resume auto",
                    )
        if saved != step:
            self._save(step, time.perf_counter() - begun)
        path = out / f"{job.adapter.name}.safetensors"
        if self.accelerator.is_main_process:
            with self.average:
                self.export(path, step)
        return Outcome(path, step, time.perf_counter() - begun)

    def update(self, step: int) -> dict[str, float]:
        """One update of the weights.

        Raises:
            NonFiniteLoss: before anything is changed.
        """
        job, accelerator = self.job, self.accelerator
        self.joint.module.train()
        torch.manual_seed(random_stream(job.train.seed, DROPOUT, step, accelerator.process_index))
        laid_out = self._parts(step)
        totals = self._totals(laid_out)
        self.optimizer.zero_grad(set_to_none=True)
        video = audio = 0.0
        for number, part in enumerate(laid_out):
            last = number == len(laid_out) - 1
            shared = (
                accelerator.no_sync(self.joint.call) if accelerator.num_processes > 1 and not last else nullcontext()
            )
            with shared, fast_attention(self.device):
                with self._precision():
                    found = losses(self.joint, part, job.loss, totals)
                # Gradients are averaged over processes, these losses are shares of a sum.
                (found.total * accelerator.num_processes).backward()
            video, audio = video + found.video, audio + found.audio
        shares = torch.tensor([video, audio], dtype=torch.float64, device="cpu")
        if accelerator.num_processes > 1:
            shares = accelerator.reduce(shares.to(self.device, torch.float32), "sum").cpu()
        video, audio = shares.tolist()
        loss = video + job.loss.audio * audio
        norm = self._gradient_norm()
        if not (torch.isfinite(shares).all() and torch.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLoss(
                self._blame(step, laid_out, loss, float(norm)), remedy="a lower optimizer.rate, or float32"
            )
        if job.optimizer.clip:
            torch.nn.utils.clip_grads_with_norm_(self.named.values(), job.optimizer.clip, norm)
        share = optimizer.factor(job.optimizer, step, job.train.steps)
        optimizer.set_rates(self.optimizer, share)
        self.optimizer.step()
        self.average.update(step)
        return {"loss": loss, "video": video, "audio": audio, "norm": float(norm), "rate": job.optimizer.rate * share}

    def export(self, path: Path, step: int) -> None:
        """Write the adapter as it is now."""
        job, backbone, settings = self.job, self.backbone, self.job.lora
        metadata = AdapterMetadata(
            rules=job.rules,
            languages=job.adapter.languages,
            base=backbone.card.name,
            generation=generation_of(self.joint.module.config),
            fingerprint=backbone.fingerprint,
            rank=settings.rank,
            alpha=float(settings.rank if settings.alpha is None else settings.alpha),
            targets=settings.targets,
            prompt=job.adapter.prompt,
            condition_dropout={name: getattr(job.dropout, name) for name in ("no_text", "no_reference", "nothing")},
            sampling=job.adapter.sampling,
            steps=step,
            recipe=job.digest(),
            licence=job.adapter.licence,
        )
        write_adapter(path, inject.export(self.joint.module, NAME), metadata)

    # -- parts of an update -------------------------------------------------------------------------------------------

    def _parts(self, step: int) -> list[Part]:
        """This process's share of an update, in forward passes of at most `batch` samples."""
        job, batch = self.job, self.job.train.batch
        indices, first = self.order.update(step), self.accelerator.process_index * self.mine
        found = []
        for start in range(first, first + self.mine, batch):
            examples = []
            for slot in range(start, start + batch):
                pair = self.encoded.pairs[int(indices[slot])]
                sample = self.encoded.cache.read_sample(pair.sample)
                tokens = sample.video_target_Cfhw[0].numel() // self.joint.geometry.patch**2
                chosen = draw(
                    int(indices[slot]), step, slot, job.train.seed, tokens, job.noise, job.dropout, job.inpaint
                )
                examples.append(Example(sample, self._text(pair, chosen.has_text), chosen))
            found += parts(examples, self.joint, job.rules, self.device)
        return found

    def _text(self, pair: CachedPair, wanted: bool) -> TextContext:
        """A pair's prompt or prompts, or the empty one."""
        cache = self.encoded.cache
        if not wanted:
            return cache.read_text(self.encoded.null_text)
        return joined([cache.read_text(name) for name in pair.texts], [at for at, _ in pair.pair.later])

    def _totals(self, laid_out: list[Part]) -> Totals:
        """Weights of the whole update, over all processes."""
        video = sum(float(part.weights(self.job.loss).sum()) for part in laid_out)
        audio = float(sum(part.audio_tokens() for part in laid_out))
        totals = torch.tensor([video, audio])
        if self.accelerator.num_processes > 1:
            totals = self.accelerator.reduce(totals.to(self.device), "sum").cpu()
        return Totals(*(max(float(total), 1e-6) for total in totals))

    def _gradient_norm(self) -> torch.Tensor:
        gradients = [p.grad for p in self.named.values() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _precision(self) -> Any:
        """The base's dtype for the adapter's products too, while its weights stay float32."""
        dtype = self.joint.dtype
        return torch.autocast(self.device.type, dtype) if dtype != torch.float32 else nullcontext()

    def _blame(self, step: int, laid_out: list[Part], loss: float, norm: float) -> str:
        names = []
        for part in laid_out:
            for example in part.examples:
                pair = self.encoded.pairs[example.draw.index].pair
                names.append(f"{pair.target.name} (entry {pair.entry}, sigma {example.draw.video_sigma:.3f})")
        found = f"step {step + 1}: the loss is {loss} and the gradient's norm {norm}"
        return f"{found}, for {', '.join(names)}; nothing was changed"

    # -- states -------------------------------------------------------------------------------------------------------

    def _start_from(self, path: Path) -> None:
        """Begin with the weights of an adapter file.

        Raises:
            BadInputError: its modules or ranks are not the job's.
        """
        adapter = read_adapter(path)
        own = dict(inject.trained(self.joint.module, NAME))
        for module, factors in adapter.modules.items():
            for part, value in (("lora_A", factors.down_rI), ("lora_B", factors.up_Or)):
                name = f"{module}.{part}.{NAME}.weight"
                if name not in own or own[name].shape != value.shape:
                    raise BadInputError(
                        f"{path}: {module} of rank {factors.rank} is not in this job", expected="its targets and ranks"
                    )
                block_module = module.split(".", 2)[2]
                rank, alpha = self.job.lora.rank_of(block_module), self.job.lora.alpha_of(block_module)
                with torch.no_grad():
                    own[name].copy_(value.float() * (rank / alpha if part == "lora_B" else 1.0))

    def _save(self, step: int, elapsed: float) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            names = list(self.named)
            state = checkpoint.State(
                step=step,
                parameters=dict(self.named),
                means=dict(zip(names, self.average.means, strict=False)),
                optimizer=self.optimizer.state_dict(),
                run=self.identity,
                elapsed=elapsed,
            )

            def adapter(path: Path) -> None:
                with self.average:
                    self.export(path, step)

            checkpoint.write(Path(self.job.out), state, last=self.job.checkpoint.last, adapter=adapter)
        self.accelerator.wait_for_everyone()

    def _resume(self, folder: Path) -> tuple[int, float]:
        state = checkpoint.read(folder, self.identity)
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(state.parameters[name])
        for mean, name in zip(self.average.means, self.named, strict=False):
            mean.copy_(state.means[name])
        self.optimizer.load_state_dict(state.optimizer)
        return state.step, state.elapsed

    def _show(self, preview: Preview, step: int) -> None:
        if self.accelerator.is_main_process:
            self.joint.module.eval()
            with self.average:
                preview(step)
        self.accelerator.wait_for_everyone()

    def _memory(self) -> dict[str, float]:
        if self.device.type == "cuda":
            return {"memory_gib": torch.cuda.max_memory_allocated() / 2**30}
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"memory_gib": peak / (2**30 if sys.platform == "darwin" else 2**20)}


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set: the update in progress is finished and saved. A second one ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
