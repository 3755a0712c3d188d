#!/usr/bin/env python3
"""Train an IC-LoRA adapter: `python train_lora.py CONFIG.yaml`. The same as `justdub train`."""

import sys

from justdub.cli.main import run_process

if __name__ == "__main__":
    sys.exit(run_process(prog="train_lora.py", only="train"))
