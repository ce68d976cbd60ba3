"""The vision tower by OpenVINO, on the CPU: converted once, kept by the hash of its weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.core.home import own_folder
from c4c.core.progress import say
from c4c.extract.backbone import towers
from c4c.extract.backbone.graphs import (
    Graph,
    file_of,
    openvino_core,
    packed,
    quiet,
    read_graph,
    reason_of,
    require_openvino,
    unpacked,
)
from c4c.extract.backbone.patch3d import has_patch3d

if TYPE_CHECKING:
    from c4c.extract.backbone.backbone import Backbone

_MADE_BY = ("openvino", "torch", "open_clip_torch", "timm")  # whose versions change a graph


class OpenVinoTower:
    """A converted tower; OpenVINO prepares it for a batch's shape when the first one comes.

    Args:
        graph: from ``converted``, or a calibrated one.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        calibrated: checksum of the graph, of int8.

    Raises:
        C4CError: no OpenVINO here, no graph of its, or a processor without this precision.
    """

    backend = "openvino"
    dtype: torch.dtype | None = torch.float32  # of the images it takes

    def __init__(self, graph: Graph, precision: str, calibrated: str = "") -> None:
        self.calibrated = calibrated
        if precision == "bfloat16" and not computes_bfloat16():
            raise C4CError(
                "OpenVINO computes bfloat16 only on processors that have it; pass --precision "
                "float32 or --backend torch."
            )
        # What int8 leaves (norms, softmax) goes as fast as it is safe on this processor.
        half = precision != "float32" and computes_bfloat16()
        self._hint = "bf16" if half else "f32"
        self._model = unpacked(graph)
        self._shape: torch.Size | None = None
        self._compiled: Any = None

    def __call__(self, images: Tensor) -> Tensor:
        """Features [n, D] of images [n, 3, S, S], float32 both."""
        if images.shape != self._shape:
            self._prepare(images.shape)
        found = self._compiled([images.numpy()], share_inputs=True)[0]
        return torch.from_numpy(np.array(found))

    def _prepare(self, shape: torch.Size) -> None:
        """Compile for batches of this shape, which are computed faster than any shape."""
        settings = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # decoder processes need the same cores
        }
        self._model.reshape(list(shape))
        self._compiled = openvino_core().compile_model(self._model, "CPU", settings)
        self._shape = shape


def computes_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor."""
    able = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in able


def converted(backbone: Backbone, hidden: bool = False) -> Graph:
    """The vision tower of ``backbone``, whose weights are float32, for OpenVINO.

    Args:
        backbone: as it was loaded.
        hidden: stop before the projection.

    Raises:
        C4CError: no OpenVINO here, or a tower that does not convert.
    """
    require_openvino()
    if has_patch3d(backbone.model.visual):
        raise C4CError(f"OpenVINO takes frames one by one, and {backbone.name} has a 3d patch.")
    own = own_folder("XDG_CACHE_HOME", ".cache")
    path = own / "openvino" / f"{_key(backbone, hidden)}.safetensors" if own else None
    if path and path.is_file():
        with contextlib.suppress(C4CError):  # a damaged one is made anew
            return read_graph(path)
    say(f"converting {backbone.name} for OpenVINO: this may take a minute")
    graph = _converted(backbone, hidden)
    if path:
        with contextlib.suppress(C4CError):  # a full or read-only home: converted every time
            write_atomic(path, file_of(graph))
    return graph


def _key(backbone: Backbone, hidden: bool) -> str:
    """Names a converted tower by all that it depends on."""
    gelu = backbone.about()["quick_gelu"]  # no weight says it
    versions = [importlib.metadata.version(name) for name in _MADE_BY]
    parts = (backbone.sha256, backbone.name, gelu, hidden, backbone.preprocessing.fit.shape)
    return hashlib.sha256(repr((*parts, versions)).encode()).hexdigest()


def _converted(backbone: Backbone, hidden: bool) -> Graph:
    shape = (2, 3, *backbone.preprocessing.fit.shape)
    images = torch.zeros(shape, device=backbone.device)
    try:
        with _tower(backbone, hidden) as tower, quiet(), torch.no_grad():
            sizes = ({0: torch.export.Dim("batch")},)
            program = torch.export.export(tower, (images,), dynamic_shapes=sizes)
            model = require_openvino().convert_model(program)
            model.reshape([-1, *shape[1:]])
            return packed(model)
    except Exception as error:  # torch's exporter and OpenVINO have many types of their own
        raise C4CError(
            f"{backbone.name} does not convert to OpenVINO ({reason_of(error)}); use --backend "
            "torch."
        ) from None


class _First(nn.Module):
    """A tower's features, without the tokens that CoCa's gives too."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        features = self.visual(images)
        found: Tensor = features[0] if isinstance(features, tuple) else features
        return found


@contextlib.contextmanager
def _tower(backbone: Backbone, hidden: bool) -> Iterator[nn.Module]:
    """The tower, which stops before its projection while inside, if ``hidden``."""
    projection = towers.vision_projection(backbone.model) if hidden else None
    with projection.left_out() if projection else contextlib.nullcontext():
        yield _First(backbone.model.visual)
