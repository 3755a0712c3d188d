"""`python -m datagen.world.pretrain JOB CONFIG.yaml`: train a part of the drawn world's checkpoint."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from justdub import jobs as job_files
from justdub.errors import EXIT_DONE, EXIT_INTERRUPTED, JustDubError

# job: its module, the dataclass of its settings, what it makes. A module has `run(job, resume, finish_only, report)`.
JOBS = {
    "video-codec": ("video_codec", "VideoCodecJob", "frames <-> latents: a small AutoencoderKLLTX2Video"),
    "audio-codec": ("audio_codec", "AudioCodecJob", "speech <-> latents: a small AutoencoderKLLTX2Audio"),
    "transformer": ("transformer", "TransformerJob", "the joint transformer, its text encoder and connectors"),
    "vocoder": ("vocoder", "VocoderJob", "spectrograms -> samples: a small LTX2Vocoder"),
    "judges": ("judges", "JudgesJob", "what measures generated clips: justdub.evaluation.world's weights"),
    "assemble": ("assemble", "AssembleJob", "all trained parts -> one checkpoint folder"),
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m datagen.world.pretrain", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    for name, (_, _, text) in JOBS.items():
        command = jobs.add_parser(name, help=text)
        command.add_argument("config", type=Path, metavar="CONFIG.yaml", help="see configs/pretrain")
        command.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a setting")
        go = command.add_mutually_exclusive_group()
        go.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
        go.add_argument("--finish", action="store_true", help="train no more: save and measure the best weights so far")
    options = parser.parse_args(arguments)
    try:
        figures = _run(options)
    except JustDubError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: --resume goes on from the last checkpoint\n")
        return EXIT_INTERRUPTED
    sys.stdout.write(json.dumps(figures) + "\n")
    return EXIT_DONE


def _run(options: argparse.Namespace) -> dict[str, float]:
    module_name, kind, _ = JOBS[options.job]
    module = importlib.import_module(f"datagen.world.pretrain.{module_name}")
    job = job_files.load(getattr(module, kind), options.config, options.set)
    return module.run(job, resume=options.resume, finish_only=options.finish, report=_tell)


def _tell(line: dict) -> None:
    """One line of progress on stderr."""
    if "validation" in line:
        text = " ".join(f"{name} {value}" for name, value in line["validation"].items())
        sys.stderr.write(f"step {line['step']} validation: {text}\n")
    elif "drawing" in line:
        sys.stderr.write(
            f"\rdrawing {line['drawing']}: {line['clips']}/{line['of']}" + "\n" * (line["clips"] == line["of"])
        )
    else:
        left = f"{line['eta_s'] / 60:.1f} min left"
        rest = " ".join(
            f"{name} {line[name]}" for name in ("loss", "train_psnr", "video", "audio", "reading") if name in line
        )
        sys.stderr.write(f"step {line['step']}/{line['of']} {rest} {line['s_per_step']} s/step, {left}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
