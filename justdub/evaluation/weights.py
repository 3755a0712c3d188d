"""Networks from the user's files: TorchScript and ONNX as they are, tensors for networks whose code is ours.

Pickled checkpoints are never opened: they can run any code.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from justdub.errors import BadInputError, MissingError

_CONVERT = "convert it to safetensors or TorchScript where you trust it"


class Network:
    """One input array in, one output array out, whatever the file's format.

    Args:
        device: of torch, for TorchScript.

    Raises:
        BadInputError: a pickled checkpoint, a damaged file, or another format.
        MissingError: ONNX without onnxruntime.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.path, self.device = path, device
        self._run: Any = None
        self.arguments: set[str] = set()
        if path.suffix.lower() == ".onnx":
            self._session = _open_onnx(path)
        else:
            self._session, self._module = None, _open_torchscript(path, device)
            self.arguments = {argument.name for argument in self._module.forward.schema.arguments}

    def __call__(self, inputs: np.ndarray, **options: bool) -> np.ndarray:
        """The first output for `inputs`; `options` are passed to a TorchScript module that knows them."""
        if self._session is not None:
            return np.asarray(self._session.run(None, {self._session.get_inputs()[0].name: inputs})[0])
        import torch

        known = {name: value for name, value in options.items() if name in self.arguments}
        with torch.inference_mode():
            try:
                found = self._module(torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device), **known)
            except RuntimeError as error:
                last = str(error).strip().splitlines()[-1]
                raise BadInputError(f"{self.path}: cannot take an input of shape {inputs.shape}: {last}") from error
        return (found[0] if isinstance(found, tuple | list) else found).float().cpu().numpy()


def require_onnx() -> None:
    """Raises MissingError where onnxruntime is not installed."""
    if find_spec("onnxruntime") is None:
        raise MissingError("needs onnxruntime", remedy="pip install onnxruntime")


def _open_onnx(path: Path):
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class per failure, all private
        raise BadInputError(f"{path} is no ONNX network that can be run: {str(error).splitlines()[0]}") from error


def _open_torchscript(path: Path, device: str):
    import torch

    if not zipfile.is_zipfile(path):
        raise BadInputError(f"{path} is damaged, or no TorchScript", expected=".onnx or TorchScript", remedy=_CONVERT)
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if "constants.pkl" not in names or not any(name.startswith("code/") for name in names):
        raise BadInputError(f"{path} is a pickled checkpoint, which could run any code", remedy=_CONVERT)
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise BadInputError(f"{path}: this TorchScript cannot be loaded: {str(error).splitlines()[0]}") from error


def load_tensors(path: Path, into) -> None:
    """Fill a torch module from a safetensors file; every name and shape must match.

    Prefixes that all names share ("module.", "__S__.") are taken off; counters of batches may be absent.

    Raises:
        BadInputError: not safetensors, or the tensors are those of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix.lower() != ".safetensors":
        raise BadInputError(f"{path}: not safetensors", expected="NAME.safetensors", remedy=_CONVERT)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInputError(f"{path} is damaged: {error}", remedy="copy it again") from error
    wanted = {name: value.shape for name, value in into.state_dict().items()}
    for prefix in ("module.", "__S__."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    extra = [name for name in tensors if name not in wanted]
    wrong = [name for name in tensors if name in wanted and tensors[name].shape != wanted[name]]
    for problem, names in (("lacks", missing), ("has beside", extra), ("has another shape of", wrong)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BadInputError(f"{path} {problem} {names[0]}{more}", expected=f"{type(into).__name__}'s tensors")
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise BadInputError(f"{path} holds values that are no numbers", remedy="copy it again")
    into.load_state_dict(tensors, strict=False)
