"""`justdub adapter`: look at adapter files, check, convert, merge, blend and compare them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from justdub.errors import UsageError

HELP = "list, check, convert, merge, blend and compare adapters"
DESCRIPTION = (
    "Look at adapter files, check, convert, merge, blend and compare them. An adapter is a name of the shelf or a path."
)
DTYPES = ("float32", "bfloat16", "float16")
_TITLES = {
    "base": "base",
    "generation": "generation",
    "fingerprint": "fingerprint",
    "alpha": "trained alpha",
    "targets": "targets",
    "prompt": "prompt",
    "condition_dropout": "condition dropout",
    "sampling": "sampling",
    "steps": "steps",
    "recipe": "recipe",
    "licence": "licence",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=help, description=help[:1].upper() + help[1:] + ".", allow_abbrev=False)
        sub.set_defaults(action_run=run)
        return sub

    def adapter(sub: argparse.ArgumentParser, name: str = "adapter", **kwargs: Any) -> None:
        sub.add_argument(name, metavar=kwargs.pop("metavar", "ADAPTER"), **kwargs)

    def backbone(sub: argparse.ArgumentParser, default: str | None = "mini") -> None:
        said = f"checkpoint folder (default: {default or 'none'})"
        sub.add_argument("--backbone", "-b", default=default, metavar="PATH", help=said)

    def any_base(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--any-base", action="store_true", help="also one that was trained on other weights")

    def as_json(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print one line of JSON")

    def dtype(sub: argparse.ArgumentParser, default: str | None) -> None:
        sub.add_argument(
            "--dtype", choices=DTYPES, default=default, help=f"of the weights (default: {default or 'as they are'})"
        )

    sub = action("list", _list, "list the adapters that can be named")
    as_json(sub)

    sub = action("info", _info, "show what a file says about itself and how much it changes")
    adapter(sub)
    backbone(sub, None)
    as_json(sub)

    sub = action("verify", _verify, "run an adapter on its backbone; fails if it does not fit or does nothing")
    adapter(sub)
    backbone(sub)
    any_base(sub)
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    sub.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: %(default)s)")
    as_json(sub)

    sub = action("convert", _convert, "write an adapter in the naming of another tool, its alpha folded in")
    adapter(sub)
    sub.add_argument("--to", required=True, choices=("comfyui", "diffusers", "peft", "kohya"), help="whose naming")
    sub.add_argument(
        "--sampling", action="append", default=[], metavar="NAME=VALUE",
        help="also write how it is best run, such as audio_guidance=2; repeatable",
    )  # fmt: skip
    sub.add_argument("--output", "-o", required=True, metavar="FILE", help="a .safetensors file; for peft a new folder")
    dtype(sub, None)

    sub = action("merge", _merge, "write a new checkpoint folder whose weights contain adapters")
    adapter(sub, "adapters", nargs="+", metavar="ADAPTER[:STRENGTH]")
    backbone(sub)
    any_base(sub)
    sub.add_argument("--output", "-o", required=True, metavar="DIR", help="the new folder")
    dtype(sub, None)

    sub = action("blend", _blend, "write one adapter that does what several do at their strengths")
    adapter(sub, "adapters", nargs="+", metavar="ADAPTER[:STRENGTH]")
    any_base(sub)
    sub.add_argument("--output", "-o", required=True, metavar="FILE", help="a .safetensors file")
    sub.add_argument("--rank", type=int, metavar="R", help="compress to this rank (default: exact, ranks add up)")
    dtype(sub, "bfloat16")

    sub = action("diff", _diff, "compare what two adapters change")
    adapter(sub, "a", metavar="A")
    adapter(sub, "b", metavar="B")
    as_json(sub)


def run(arguments: argparse.Namespace) -> None:
    arguments.action_run(arguments)


# -- actions -----------------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> None:
    from justdub.lora import shelf

    entries = [shelf.describe(name, path) for name, path in shelf.names().items()]
    if arguments.json:
        _print_json([asdict(entry) for entry in entries])
    elif not entries:
        _say(f"no adapters in {', '.join(map(str, shelf.shelves())) or 'any shelf'}; ${shelf.VARIABLE} adds folders")
    else:
        rows = [
            [one.name, ",".join(one.languages) or "-", one.base or "-", str(one.rank), _megabytes(one.size), one.title]
            for one in entries
        ]
        _table(["name", "languages", "base", "rank", "size", "title"], rows)


def _info(arguments: argparse.Namespace) -> None:
    adapter = _read(arguments.adapter)
    from justdub.backbone.checkpoint import find
    from justdub.lora.change import measure
    from justdub.lora.files import check_widths, generation_of
    from justdub.lora.weights import TransformerWeights

    base = TransformerWeights(find(arguments.backbone)) if arguments.backbone else None
    if base is not None:
        check_widths(adapter, base.linear, generation_of(base.config))
    changes = measure(adapter.modules, base)
    said = asdict(adapter.metadata)
    if arguments.json:
        top = {"path": adapter.path, "world": adapter.world, "rank": adapter.rank, "modules": len(adapter.modules)}
        _print_json({**top, "metadata": said, "relative": base is not None, "changes": [asdict(c) for c in changes]})
        return
    print(f"{adapter.path}: {len(adapter.modules)} modules, rank {adapter.rank}, naming of {adapter.world or 'nobody'}")
    if adapter.rules is not None:
        print("  rules: " + ", ".join(f"{key} {value}" for key, value in said["rules"].items()))
    print(f"  languages: {', '.join(adapter.languages) or '-'}")
    for name, title in _TITLES.items():
        if value := said[name]:
            print(f"  {title}: {', '.join(value) if isinstance(value, tuple) else value}")
    if not adapter.header:
        print("  the file says nothing about itself")
    print("change of weights, " + ("relative to the backbone's" if base else "absolute (relative with --backbone)"))
    rows = [
        [
            c.group,
            c.family,
            str(c.modules),
            f"{c.parameters / 1e6:.2f} M",
            f"{c.median:.3g}",
            f"{c.largest:.3g}",
            str(c.zero),
        ]
        for c in changes
    ]
    _table(["stream", "modules", "number", "parameters", "median", "largest", "unchanged"], rows)


def _verify(arguments: argparse.Namespace) -> None:
    adapter = _read(arguments.adapter)
    from justdub.backbone import checkpoint
    from justdub.lora.verify import verify

    device = checkpoint.choose_device(arguments.device)
    backbone = checkpoint.load(
        arguments.backbone, device=device, dtype=checkpoint.choose_dtype(arguments.dtype, device)
    )
    found = verify(backbone, adapter, any_base=arguments.any_base)
    if found.notice:
        _say(found.notice)
    if arguments.json:
        _print_json({"path": adapter.path, "backbone": backbone.card.name, **asdict(found)})
        return
    print(
        f"{adapter.path}: works on {backbone.card.name}; {found.modules} modules ({found.zero} unchanged), moves the "
        f"picture by {found.video:.1%} and the sound by {found.audio:.1%}"
    )


def _convert(arguments: argparse.Namespace) -> None:
    from justdub.media import check_output

    adapter = _read(arguments.adapter)
    from justdub.lora.files import write
    from justdub.lora.formats import DIFFUSERS_HEADER

    output = Path(arguments.output)
    if arguments.to != "peft":
        output = check_output(output, inputs=[adapter.path], suffixes=(".safetensors",))
    elif not output.absolute().parent.is_dir():
        raise UsageError(f"the folder {output.absolute().parent} does not exist")
    metadata = adapter.metadata
    if arguments.sampling:
        metadata = replace(metadata, sampling=dict(metadata.sampling) | _sampling(arguments.sampling))
    kept = {
        key: value
        for key, value in adapter.header.items()
        if key not in (DIFFUSERS_HEADER, "format") and not key.startswith("ss_network_")
    }
    write(output, adapter.modules, metadata, dtype=_dtype(arguments.dtype), world=arguments.to, header=kept)
    print(f"{arguments.output}: {len(adapter.modules)} modules, naming of {arguments.to}")


def _sampling(texts: list[str]) -> dict[str, float]:
    from justdub.dubbing.settings import check_sampling

    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--sampling {text!r}", expected="NAME=VALUE, such as audio_guidance=2") from None
    check_sampling(found, "--sampling")
    return found


def _merge(arguments: argparse.Namespace) -> None:
    parts = _parts(arguments.adapters)
    from justdub.backbone.checkpoint import find
    from justdub.lora.merge import merge

    report = merge(
        find(arguments.backbone),
        parts,
        Path(arguments.output),
        dtype=_dtype(arguments.dtype),
        any_base=arguments.any_base,
    )
    for notice in report.notices:
        _say(notice)
    print(f"{arguments.output}: {report.modules} modules changed; rounding took {report.lost:.2%} of the change")


def _blend(arguments: argparse.Namespace) -> None:
    from justdub.media import check_output

    parts = _parts(arguments.adapters)
    from justdub.lora.blend import blend
    from justdub.lora.files import write

    output = check_output(arguments.output, inputs=[adapter.path for adapter, _ in parts], suffixes=(".safetensors",))
    made = blend(parts, arguments.rank, any_base=arguments.any_base)
    write(output, made.modules, made.metadata, dtype=_dtype(arguments.dtype), header=made.header)
    size = f"{len(made.modules)} modules, rank {made.metadata.rank}"
    print(f"{arguments.output}: {size}, error {made.error:.2%} of the change")


def _diff(arguments: argparse.Namespace) -> None:
    a, b = _read(arguments.a), _read(arguments.b)
    from justdub.lora.change import compare

    rows = compare(a.modules, b.modules)
    if arguments.json:
        _print_json({"a": a.path, "b": b.path, "changes": [asdict(row) for row in rows]})
        return
    _table(
        ["stream", "modules", "both", "only A", "only B", "cosine", "|B|/|A|", "|A-B|/|A|"],
        [
            [
                r.group,
                r.family,
                str(r.modules),
                str(r.only_a),
                str(r.only_b),
                f"{r.cosine:.3f}",
                f"{r.ratio:.3g}",
                f"{r.distance:.3g}",
            ]
            for r in rows
        ],
    )


# -- helpers -----------------------------------------------------------------------------------------------------------


def _read(text: str) -> Any:
    from justdub.lora.shelf import find

    path = find(text)
    from justdub.cli.libraries import prepare

    prepare()
    from justdub.lora.files import read  # torch from here on

    return read(path)


def _parts(texts: list[str]) -> list[tuple[Any, Any]]:
    from justdub.lora.reference import parse_reference
    from justdub.lora.shelf import find

    references = [parse_reference(text) for text in texts]
    for reference in references:
        find(reference.name)  # all names before torch is loaded
    return [(_read(reference.name), reference.strength) for reference in references]


def _dtype(name: str | None) -> Any:
    import torch

    return None if name is None else getattr(torch, name)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: Any) -> None:
    print(json.dumps(_finite(value), default=str, ensure_ascii=False))


def _finite(value: Any) -> Any:
    """Numbers that JSON has no word for become null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say(line: str) -> None:
    print(f"justdub: {line}", file=sys.stderr)
