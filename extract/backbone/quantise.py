"""int8 by NNCF's post-training quantisation: ranges of activations from the user's own frames."""

from __future__ import annotations

from torch import Tensor

from c4c.core.errors import C4CError
from c4c.extract.backbone.graphs import Graph, packed, quiet, reason_of, require_nncf, unpacked

FRAMES = 320  # to calibrate on
_BATCH = 16


def quantised(graph: Graph, images: Tensor) -> Graph:
    """A graph whose products are of int8; the same images give the same bytes.

    Weights have 7 bits: sums of two products of 8 overflow on processors without VNNI, and a
    cache may go on on any of them.

    Args:
        graph: from ``converted``.
        images: float32 [n, 3, S, S], n > 0, preprocessed.

    Raises:
        C4CError: no NNCF here, or it does not get this graph.
    """
    nncf = require_nncf()
    batches = [images[first : first + _BATCH] for first in range(0, len(images), _BATCH)]
    try:
        with quiet():
            data = nncf.Dataset([batch.numpy() for batch in batches])
            options = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
            model = nncf.quantize(
                unpacked(graph),
                data,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(batches),
                advanced_parameters=options,
            )
            return packed(model)
    except Exception as error:  # NNCF has many types of its own
        raise C4CError(f"The tower cannot be quantised ({reason_of(error)}).") from None
