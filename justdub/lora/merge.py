"""Merge adapters into a checkpoint folder: a new, complete folder whose transformer needs no adapter.

Weights are changed file by file, so memory holds one file of the checkpoint. ``merged.json`` in the new folder keeps
what was merged, the rules of its sequences included; the card's name says it, and so does its README.

Letters: I input width, O output width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from justdub.backbone import checkpoint
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.lora.config import group
from justdub.lora.files import AdapterFile, check_base, check_widths, generation_of
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.reference import Strength
from justdub.lora.shelf import file_digest, name_of
from justdub.lora.weights import FOLDER, TransformerWeights
from justdub.sequence import SequenceRules

RECORD = "merged.json"


@dataclass(frozen=True)
class Merged:
    """One adapter that was merged into a checkpoint."""

    name: str
    strength: str
    sha256: str
    header: dict[str, str]

    @property
    def metadata(self) -> AdapterMetadata:
        return AdapterMetadata.from_strings(self.name, self.header)

    @property
    def rules(self) -> SequenceRules | None:
        return self.metadata.rules


@dataclass(frozen=True)
class MergeReport:
    """What came out.

    Attributes:
        modules: whose weights changed.
        lost: Frobenius norm of what rounding to the stored type took, relative to that of the whole change.
    """

    folder: Path
    modules: int
    lost: float
    notices: tuple[str, ...]


def read_record(folder: Path) -> tuple[Merged, ...]:
    """The adapters that are part of a checkpoint's weights; none for an ordinary folder."""
    path = folder / RECORD
    if not path.is_file():
        return ()
    try:
        return tuple(Merged(**entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadInputError(f"{path} is damaged ({error})", expected="the record of a merge") from error


def merge(
    folder: Path,
    parts: Sequence[tuple[AdapterFile, Strength]],
    output: Path,
    *,
    dtype: torch.dtype | None = None,
    any_base: bool = False,
) -> MergeReport:
    """Write `output`, a copy of the checkpoint `folder` with ``W + sum(strength * B A)`` in its transformer. Atomic.

    Args:
        dtype: of the transformer's weights; None keeps the stored type (bfloat16 rounds small changes away: see
            `MergeReport.lost`).

    Raises:
        BadInputError: an adapter does not fit, or their rules differ.
        UsageError: `output` exists, or the checkpoint is an official single file.
        MissingError: the disk has no room for it.
    """
    if output.exists():
        raise UsageError(f"{output} exists already", expected="the name of a new folder")
    if folder.is_file():
        raise UsageError(
            f"{folder} is one file", expected="a checkpoint folder to merge into", remedy="--adapter with every dub"
        )
    _check_room(folder, output)
    weights, card = TransformerWeights(folder), checkpoint.Card.read(folder)
    base = checkpoint.fingerprint(folder)
    earlier = read_record(folder)
    rules = {one.rules for one in earlier} | {adapter.rules for adapter, _ in parts}
    if len(rules - {None}) > 1:
        raise BadInputError("the adapters build their sequences by different rules", expected="adapters that agree")
    notices = []
    for adapter, _ in parts:
        check_widths(adapter, weights.linear, generation_of(weights.config))
        notices.append(check_base(adapter, fingerprint=base, base=card.name, any_base=any_base))
    record = [*earlier, *(_record(adapter, strength) for adapter, strength in parts)]
    temporary = output.with_name(f".{output.name}.part")
    try:
        shutil.copytree(folder, temporary, ignore=partial(_ignore, {path.resolve() for path in weights.files}))
        lost, whole = _write_weights(weights, parts, temporary / FOLDER, dtype)
        _write_cards(temporary, folder, card.name, record, parts)
        temporary.replace(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    modules = {module for adapter, _ in parts for module in adapter.modules}
    return MergeReport(output, len(modules), lost / whole if whole else 0.0, tuple(n for n in notices if n))


def _check_room(folder: Path, output: Path) -> None:
    """The new folder is as large as the old one."""
    needed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(output.absolute().parent).free
    if needed > free:
        raise MissingError(
            f"no room for {output}: {free / 2**30:.1f} GiB are free",
            expected=f"{needed / 2**30:.1f} GiB as the checkpoint has",
            remedy="free space, or a folder on another disk",
        )


def _ignore(files: set[Path], folder: str, names: list[str]) -> list[str]:
    """For `shutil.copytree`: these very files are left out; the other parts' weights have the same name."""
    return [name for name in names if (Path(folder) / name).resolve() in files]


def _record(adapter: AdapterFile, strength: Strength) -> Merged:
    return Merged(name_of(adapter.path), str(strength), file_digest(adapter.path), adapter.metadata.to_strings())


def _write_weights(
    weights: TransformerWeights, parts: Sequence[tuple[AdapterFile, Strength]], folder: Path, dtype: torch.dtype | None
) -> tuple[float, float]:
    """Returns the norms of what rounding took and of the change itself."""
    from safetensors.torch import save_file

    lost = whole = 0.0
    for path in weights.files:
        tensors = {}
        for key, stored in weights.shard(path):
            target = dtype if dtype is not None and stored.is_floating_point() else stored.dtype
            module = key.removesuffix(".weight")
            changes = [
                (adapter.modules[module].delta(), strength.at(group(module)))
                for adapter, strength in parts
                if module in adapter.modules and key.endswith(".weight")
            ]
            if changes:
                change_OI = sum(strength * delta_OI for delta_OI, strength in changes)
                exact_OI = stored.float() + change_OI
                tensors[key] = exact_OI.to(target)
                lost += (tensors[key].float() - exact_OI).square().sum().item()
                whole += change_OI.square().sum().item()
            else:
                tensors[key] = stored.to(target)
        save_file(tensors, folder / path.name, metadata={"format": "pt"})
    return lost**0.5, whole**0.5


def _write_cards(
    temporary: Path,
    folder: Path,
    name: str,
    record: Sequence[Merged],
    parts: Sequence[tuple[AdapterFile, Strength]],
) -> None:
    path = temporary / "justdub.json"
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    names = [f"{name_of(adapter.path)}:{strength}" for adapter, strength in parts]
    card["name"] = " + ".join([name, *names])
    licences = [card.get("licence", ""), *(adapter.metadata.licence for adapter, _ in parts)]
    if licences := list(dict.fromkeys(licence for licence in licences if licence)):
        card["licence"] = "; ".join(licences)
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (temporary / RECORD).write_text(json.dumps([asdict(one) for one in record], indent=2) + "\n", encoding="utf-8")
    readme = temporary / "README.md"
    before = readme.read_text(encoding="utf-8").rstrip() + "\n\n" if readme.is_file() else f"# {folder.name}\n\n"
    lines = [f"- `{one.name}` at strength {one.strength}, sha256 `{one.sha256}`" for one in record]
    text = "## Merged\n\nAdapters that are part of the transformer's weights, so that no `--adapter` is needed:\n\n"
    readme.write_text(before + text + "\n".join(lines) + "\n", encoding="utf-8")
