"""What the groups of gpu.py share: cases, times, ceilings and random vectors."""

import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES = {**HALVES, "fp32": torch.float32}
# A case is timed this often, or for so many milliseconds.
TIMES, LONGEST = 20, 400.0


@dataclass
class Bench:
    """One group: where its lines go, and what it runs on.

    Attributes:
        group: its name.
        path: file that a line is added to for each case.
        rehearse: on the CPU at tiny sizes.
    """

    group: str
    path: Path
    rehearse: bool

    def __post_init__(self) -> None:
        self.device = torch.device("cpu" if self.rehearse else "cuda")

    def size(self, full: int, tiny: int) -> int:
        """A size, or what stands for it in a rehearsal."""
        return tiny if self.rehearse else full

    def kinds(self, dtypes: dict[str, torch.dtype]) -> dict[str, torch.dtype]:
        """The dtypes that are timed; in a rehearsal the first of them."""
        return dict(list(dtypes.items())[: 1 if self.rehearse else None])

    def case(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Add a line with what ``work`` returns, or with why it failed."""
        begin = time.monotonic()
        try:
            figures = work()
        except Exception as error:
            steps = traceback.extract_tb(error.__traceback__)[-3:]
            figures = {
                "failed": f"{type(error).__name__}: {str(error)[:300]}",
                "where": [f"{Path(step.filename).name}:{step.lineno}" for step in steps],
            }
        line = {"group": self.group, "case": name, **figures}
        line["seconds"] = round(time.monotonic() - begin, 2)
        text = json.dumps(line)
        with self.path.open("a") as file:
            print(text, file=file)
        print(text, flush=True)
        if not self.rehearse:
            torch.cuda.empty_cache()

    def machine(self) -> None:
        """A line that says what this runs on."""
        self.case("machine", self._machine)

    def _machine(self) -> dict[str, Any]:
        import triton

        found = {"torch": torch.__version__, "triton": triton.__version__}
        if self.rehearse:
            return {"device": "rehearsal in the interpreter", **found}
        about = torch.cuda.get_device_properties(0)
        return {
            "device": about.name,
            "devices": torch.cuda.device_count(),
            "processors": about.multi_processor_count,
            "GB": round(about.total_memory / 1e9, 1),
            "CUDA": torch.version.cuda or torch.version.hip,
            **found,
        }

    def timed(
        self,
        name: str,
        by: str,
        work: Callable[[], object],
        dtype: torch.dtype,
        flops: float = 0.0,
        size: float = 0.0,
    ) -> None:
        """Time ``work`` and say how near it comes to what this GPU just did.

        Args:
            name: what is computed; peers have the same name.
            by: who computes it; "c4c" or a peer.
            work: called some times.
            dtype: of the products.
            flops: useful operations of a call, those of the definition and none made again.
            size: bytes that a call must read and write.
        """
        self.case(name, lambda: {"by": by, **self._figures(work, dtype, flops, size)})

    def _figures(
        self, work: Callable[[], object], dtype: torch.dtype, flops: float, size: float
    ) -> dict[str, Any]:
        rates = self.ceilings  # measured once, before memory is counted
        held = self._reset_peak()
        milliseconds = self.milliseconds(work)
        floor = max(flops / rates[dtype] / 1e9, size / rates["copy"] / 1e6)
        return {
            "ms": round(milliseconds, 4),
            "floor ms": round(floor, 4),
            "share": round(floor / milliseconds, 4),
            "TFLOP/s": round(flops / milliseconds / 1e9, 1),
            "GB/s": round(size / milliseconds / 1e6, 1),
            "peak MB": round((self._peak() - held) / 1e6, 1),
        }

    def milliseconds(self, work: Callable[[], object]) -> float:
        """The median time of a call, once it is warm."""
        if self.rehearse:
            return self._once(work)
        work()
        took = [self._once(work)]
        for _ in range(min(TIMES, math.ceil(LONGEST / max(took[0], 0.01))) - 1):
            took.append(self._once(work))
        return sorted(took)[len(took) // 2]

    def _once(self, work: Callable[[], object]) -> float:
        if self.rehearse:
            begin = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - begin)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)

    def _reset_peak(self) -> int:
        if self.rehearse:
            return 0
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def _peak(self) -> int:
        return 0 if self.rehearse else torch.cuda.max_memory_allocated()

    @cached_property
    def ceilings(self) -> dict[Any, float]:
        """TFLOP/s of a large product in each dtype, and GB/s of a copy (read and written)."""
        rates: dict[Any, float] = {}
        edge, count = self.size(8192, 64), self.size(1 << 30, 1 << 10)
        for dtype in DTYPES.values():
            one = torch.randn(edge, edge, device=self.device).to(dtype)
            rates[dtype] = 2 * edge**3 / self.milliseconds(lambda one=one: one @ one) / 1e9
        source = torch.ones(count, device=self.device, dtype=torch.int16)
        target = torch.empty_like(source)
        took = self.milliseconds(lambda: target.copy_(source))
        rates["copy"] = 2 * source.numel() * source.element_size() / took / 1e6
        names = {f"{name} TFLOP/s": round(rates[kind], 1) for name, kind in DTYPES.items()}
        self.case("ceilings", lambda: {**names, "copy GB/s": round(rates["copy"], 1)})
        return rates

    def rows(self, count: int, width: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
        """Random unit vectors [count, width]."""
        return normalize(self.randn(count, width, seed=seed), dim=1).to(dtype)

    def randn(self, *shape: int, seed: int = 0) -> Tensor:
        """Normal numbers, float32."""
        generator = torch.Generator(device=self.device).manual_seed(seed)
        return torch.randn(*shape, device=self.device, generator=generator)
