"""Looks at this machine: packages, device, decoders, weights."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from c4c.core.cores import cores
from c4c.core.version import __version__


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what it is.
        found: its version or state; ``None`` when it is not there or does not work.
        needed: whether c4c cannot do its main job without it.
        remedy: how to get it.
    """

    name: str
    found: str | None
    needed: bool
    remedy: str


_NEEDED = {
    "torch": "pip install torch torchvision",
    "torchvision": "pip install torch torchvision",
    "open_clip_torch": "pip install open_clip_torch",
    "h5py": "pip install h5py",
    "numpy": "pip install numpy",
    "av": "pip install av",
    "click": "pip install click",
    "safetensors": "pip install safetensors",
}
_OPTIONAL = {
    "triton": "only for GPUs: pip install triton",
    "decord": "second decoder, x86-64 only: pip install decord",
    "faiss-cpu": "peer in benchmarks/: pip install 'c4c[faiss]'",
    "ray": "extract --engine ray: pip install 'c4c[ray]'",
    "transformers": "backbones without CLIP's tokenizer: pip install 'c4c[hf]'",
    "pyarrow": "parquet manifests and exports: pip install 'c4c[parquet]'",
    "tensorboard": "training curves: pip install 'c4c[tensorboard]'",
    "fastapi": "c4c serve: pip install 'c4c[serve]'",
    "uvicorn": "c4c serve: pip install 'c4c[serve]'",
    "mcp": "c4c mcp: pip install 'c4c[mcp]'",
}


def examine() -> list[Check]:
    """Everything ``c4c doctor`` shows, in order."""
    checks = [
        Check("c4c", __version__, True, ""),
        Check("python", platform.python_version(), True, ""),
    ]
    checks += [Check(name, _version(name), True, remedy) for name, remedy in _NEEDED.items()]
    checks += [Check(name, _version(name), False, remedy) for name, remedy in _OPTIONAL.items()]
    checks.append(Check("device", _working(_device), True, "torch does not import; reinstall it"))
    remedy = "slower search on a CPU: install gcc or clang, then c4c again"
    checks.append(Check("CPU kernels", _working(_native), False, remedy))
    checks.append(Check("threads", str(cores()), True, ""))
    remedy = "decoders run with limits alone: this kernel or container has no Landlock or seccomp"
    checks.append(Check("sandbox", _working(_sandbox), False, remedy))
    checks.append(Check("H.264", _working(_codec), True, "PyAV lacks H.264: pip install -U av"))
    checks.append(Check("tiny backbone", _working(_tiny), True, "reinstall c4c: it ships with it"))
    return checks


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _working(look: Callable[[], str]) -> str | None:
    """What ``look`` says; a broken installation can fail in any way, and that is the answer."""
    try:
        return look()
    except Exception:
        return None


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}, Triton kernels"
    fast = torch.cpu._is_avx512_bf16_supported()
    return f"cpu: {'bfloat16 in hardware' if fast else 'float32'}; no CUDA device is visible"


def _native() -> str:
    from c4c.kernels import native

    if native.library() is None:
        raise LookupError
    pool, search = (native.LEVELS.get(at, "none for this processor") for at in native.levels())
    return f"pooling: {pool}; int8 search: {search}"


def _sandbox() -> str:
    from c4c.extract.video.sandbox import examine

    granted = examine()
    if not (granted.landlock or granted.seccomp):
        raise LookupError
    return str(granted)


def _codec() -> str:
    import av

    av.codec.Codec("h264", "r")
    return "PyAV decodes it"


def _tiny() -> str:
    from c4c.extract.backbone.load import load_backbone

    backbone = load_backbone("tiny")
    return f"{backbone.embed_dim} channels, {backbone.image_size} px, sha {backbone.sha256[:12]}"
