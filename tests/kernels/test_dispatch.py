"""Around every launch: the right device, and one line for whatever Triton raises."""

import ast
import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from c4c.core.errors import C4CError
from c4c.kernels import dispatch

KERNELS = Path(dispatch.__file__).parent


def on(device):
    """What a tensor there looks like from outside; no such device is needed."""
    return SimpleNamespace(device=torch.device(device), shape=(3, 4), dtype=torch.float32)


@pytest.fixture
def current(monkeypatch):
    """The devices that were made the current one, and left again."""
    seen = []

    @contextlib.contextmanager
    def device(which):
        seen.append(("enter", str(which)))
        yield
        seen.append(("leave", str(which)))

    monkeypatch.setattr(torch.cuda, "device", device)
    return seen


def test_a_launch_is_on_the_device_of_its_tensors(current):
    with dispatch.launching("op", a=on("cuda:1"), b=on("cuda:1")):
        assert current == [("enter", "cuda:1")]
    assert current[-1] == ("leave", "cuda:1")


def test_without_a_gpu_no_device_is_touched(current):
    with dispatch.launching("op", a=on("cpu")):
        pass
    assert current == []


def test_tensors_on_two_devices_are_refused_before_the_launch(current):
    with (
        pytest.raises(C4CError, match="a, b are on cpu and cuda:0"),
        dispatch.launching("op", a=on("cuda:0"), b=on("cpu")),
    ):
        pytest.fail("launched")
    assert current == []


def triton_errors():
    compiler = pytest.importorskip("triton.compiler.errors")
    runtime = pytest.importorskip("triton.runtime.errors")
    nothing = ast.parse("1").body[0]
    return [
        runtime.OutOfResources(300_000, 232_448, "shared memory"),
        runtime.PTXASError("PTXAS error: Internal error\nand more"),
        compiler.CompilationError("\n\nsource", nothing, "does not compile"),
        RuntimeError("no reason\nmore"),
        AssertionError(),
    ]


@pytest.mark.parametrize("place", range(5))
def test_whatever_a_launch_raises_is_one_line_with_the_shapes(place):
    error = triton_errors()[place]
    with pytest.raises(C4CError) as caught, dispatch.launching("op", a=torch.ones(3, 4)):
        raise error
    words = str(caught.value)
    assert words.startswith("op: the GPU kernel failed for a [3, 4] torch.float32: ")
    assert "\n" not in words and type(error).__name__ in words and "CPU" in words
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("full"), C4CError("row 3")])
def test_errors_that_others_handle_pass(error):
    with pytest.raises(type(error)) as caught, dispatch.launching("op", a=torch.ones(1)):
        raise error
    assert caught.value is error


def launches(tree):
    """Calls of ``name_kernel[grid](…)``, each with the ``with`` statements around it."""

    def walk(node, around):
        if isinstance(node, ast.With):
            around = [*around, *(ast.unparse(item.context_expr) for item in node.items)]
        target = node.func if isinstance(node, ast.Call) else None
        if isinstance(target, ast.Subscript) and ast.unparse(target.value).endswith("_kernel"):
            yield ast.unparse(target.value), around
        for child in ast.iter_child_nodes(node):
            yield from walk(child, around)

    return list(walk(tree, []))


def test_every_launch_passes_there():
    found = {}
    for path in KERNELS.rglob("triton.py"):
        found |= dict(launches(ast.parse(path.read_text())))
    assert len(found) == 8, sorted(found)
    for name, around in found.items():
        assert any(one.startswith("launching(") for one in around), name
