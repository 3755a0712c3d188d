"""Which kernel computes the transformer's attention, and whether its blocks are compiled.

A kernel is tried with a small call before it is used: packages that are installed need not work on this device. It is
set on the transformer's own attention modules; diffusers' `set_attention_backend` of a whole model would change the
default of every other model of the process as well.
"""

from __future__ import annotations

from typing import Any

import torch

# What the user types -> diffusers' name. Kernels that would be fetched from a hub are left out.
KERNELS = {
    "native": "native",
    "cudnn": "_native_cudnn",
    "efficient": "_native_efficient",
    "math": "_native_math",
    "flash": "flash",
    "flash-torch": "_native_flash",
    "flash3": "_flash_3",
    "sage": "sage",
    "xformers": "xformers",
    "flex": "flex",
}
# Largest error of a try, relative to the deviation of what is right: kernels that quantise are allowed more.
TOLERANCE = {"sage": 0.2}
EXACT = 0.05


def probe(name: str, device: torch.device, dtype: torch.dtype, head_dims: tuple[int, ...] = (128, 64)) -> str:
    """Try a kernel.

    Args:
        head_dims: widths of a head that it must take.

    Returns:
        Why it cannot be used, in a few words; empty when it can.
    """
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        _check_attention_backend_requirements,
        dispatch_attention_fn,
    )

    generator = torch.Generator().manual_seed(0)
    try:
        backend = AttentionBackendName(KERNELS[name])
        _check_attention_backend_requirements(backend)
        for width in head_dims:
            q, k, v = (torch.randn(1, n, 2, width, generator=generator) for n in (128, 192, 192))
            right = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
            found = dispatch_attention_fn(*(x.to(device, dtype) for x in (q, k, v)), backend=backend)
            error = (found.float().cpu() - right.transpose(1, 2)).abs().max() / right.std()
            if not error <= TOLERANCE.get(name, EXACT):
                return f"its result is off by {float(error):.2g} of the deviation"
    except Exception as error:  # kernels raise whatever they like
        return str(error).strip().partition("\n")[0][:160] or type(error).__name__
    return ""


def use(module: Any, name: str, device: torch.device) -> str:
    """Set the kernel of all attention modules of a transformer, or leave the native one.

    Returns:
        One line for the user when the kernel cannot be used, else "".
    """
    from diffusers.models.attention import AttentionModuleMixin

    config = module.config
    reason = probe(name, device, module.dtype, (config.attention_head_dim, config.audio_attention_head_dim))
    chosen = "native" if reason else name
    for one in module.modules():
        if isinstance(one, AttentionModuleMixin):
            one.set_attention_backend(KERNELS[chosen])
    return f"--attention {name} cannot be used here ({reason}); native attention instead" if reason else ""


def compile_blocks(module: Any, *, whole: bool = True, backend: str = "inductor") -> None:
    """Compile the transformer's repeated blocks: one graph for all of them.

    Args:
        whole: insist on a graph without breaks; weights that are streamed between layers need some.
    """
    module.compile_repeated_blocks(fullgraph=whole, dynamic=False, backend=backend)
