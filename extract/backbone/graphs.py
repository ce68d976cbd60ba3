"""OpenVINO's graphs as tensors, and as files of safetensors with a checksum.

A graph is two tensors of bytes: ``graph``, OpenVINO's description, and ``weights``, its numbers.
It is data: operators beyond OpenVINO's own sets are refused before OpenVINO reads it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.core.tensors import read_safetensors, state_sha256
from c4c.extract.backbone.hub import quiet_logs

Graph = dict[str, Tensor]
_KEY = "sha256"
_TELEMETRY = "openvino_telemetry"


def require_openvino() -> Any:
    """The module ``openvino``.

    Raises:
        C4CError: it is missing, or cannot be loaded on this machine.
    """
    try:
        with _without_telemetry():
            import openvino

            return openvino
    except Exception as error:  # a library that it needs, or one of another version
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise C4CError(
            f"OpenVINO cannot be loaded ({reason}): pip install 'c4c[openvino]'."
        ) from None


@cache
def openvino_core() -> Any:
    """OpenVINO's ``Core``, one for the whole process.

    Its CPU plugin gives the thread that loads it another stack for signal handlers, and unmaps
    that when it is unloaded. Of two plugins, the one that lasts longer leaves the thread on the
    other's stack, and the next signal, Ctrl-C too, ends the process by a segmentation fault. So
    the first plugin is loaded here, before NNCF loads its own, and stays.

    Raises:
        C4CError: OpenVINO is missing, or cannot be loaded on this machine.
    """
    core = require_openvino().Core()
    core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # the first question loads the plugin
    return core


def require_nncf() -> Any:
    """The module ``nncf``, which quantises.

    Raises:
        C4CError: it is missing, or cannot be loaded on this machine.
    """
    openvino_core()
    try:
        with quiet():
            import nncf

            nncf.set_log_level(logging.CRITICAL)
            return nncf
    except Exception as error:
        raise C4CError(
            f"int8 needs NNCF, which cannot be loaded ({reason_of(error)}): "
            "pip install 'c4c[openvino]'."
        ) from None


def reason_of(error: Exception) -> str:
    """The first line of what a library says of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """As if the package that sends reports of use were missing."""
    held = {name: sys.modules[name] for name in (_TELEMETRY,) if name in sys.modules}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(held)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the bars, notes and warnings of OpenVINO, NNCF and torch's exporter.

    And without telling their makers of every use, which they do unless a package is missing;
    they look for it as late as in the first conversion.
    """
    with (
        _without_telemetry(),
        quiet_logs(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def packed(model: Any) -> Graph:
    """A model of OpenVINO's as tensors: the same model gives the same bytes."""
    openvino = require_openvino()
    model.set_friendly_name("vision")  # its own names are numbers that count up in a process
    for place, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"node{place}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.save_model(model, str(path), compress_to_fp16=False)
        files = {"graph": path, "weights": path.with_suffix(".bin")}
        return {name: _bytes(file.read_bytes()) for name, file in files.items()}


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def unpacked(graph: Graph) -> Any:
    """The model of a graph, for OpenVINO.

    Raises:
        C4CError: it is none that OpenVINO reads.
    """
    openvino = require_openvino()
    try:
        text = graph["graph"].numpy().tobytes()
        _check(text, len(graph["weights"]))
        weights = openvino.Tensor(graph["weights"].numpy())  # a copy, which the model owns
        return openvino_core().read_model(text, weights)
    except C4CError:
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, with pages of words
        raise C4CError(f"no graph of OpenVINO's ({type(error).__name__})") from None


def _check(text: bytes, size: int) -> None:
    """A graph may come with a cache from elsewhere: no operator of an extension, no byte beyond."""
    for layer in ElementTree.fromstring(text).iter("layer"):
        if not re.fullmatch(r"opset[0-9]{1,3}", layer.get("version", "")):
            raise C4CError("it has operators beyond OpenVINO's own")
        held = layer.find("data") if layer.get("type") == "Const" else None
        if held is not None and not 0 <= _end(held) <= size:
            raise C4CError("it has numbers beyond its end")


def _end(data: ElementTree.Element) -> int:
    return int(data.get("offset", "-1")) + int(data.get("size", "-1"))


def file_of(graph: Graph) -> bytes:
    """A graph as a file of safetensors, with its checksum."""
    from safetensors.torch import save

    data: bytes = save(graph, {_KEY: state_sha256(graph)})
    return data


def read_graph(path: Path) -> Graph:
    """A graph from its file.

    Raises:
        C4CError: there is none, or it is not as it was written.
    """
    graph, words = read_safetensors(path)
    if state_sha256(graph) != words.get(_KEY):
        raise C4CError(f"{path} is not as it was written")
    return graph
