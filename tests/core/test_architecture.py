"""The arrows between rooms, and no work at import, read off the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "extract", "kernels", "heads", "training", "retrieval", "study")
# What a room may import at module level, besides itself.
ARROWS = {
    "core": set(),
    "extract": {"core"},
    "kernels": {"core.errors"},
    "heads": {"core", "kernels"},
    "training": {"core", "extract", "heads", "kernels", "retrieval.metrics", "retrieval.notes"},
    "retrieval": {"core", "extract.cache", "heads", "kernels"},
    "study": {"core", "extract", "training", "retrieval"},
}
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def place_of(module: str) -> str | None:
    """``c4c.cache.open`` to ``extract.cache``; ``c4c.core.errors`` to ``core.errors``."""
    if module == "c4c":
        return "core"
    if not module.startswith("c4c."):
        return None
    rest = module.removeprefix("c4c.")
    return rest if rest.split(".")[0] in ROOMS else f"core.{rest}"


def imports(tree: ast.AST) -> list[str]:
    """Every module named by an import, ``from c4c.x import y`` counting as ``c4c.x``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def allowed(room: str, place: str) -> bool:
    names = ARROWS[room] | {room}
    return any(place == name or place.startswith(name + ".") for name in names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_the_design_allows(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text())
    # core/ holds the commands and the demo, which call into rooms from inside functions.
    nodes = [node for node in tree.body if room == "core"] or [tree]
    top = ast.Module([n for n in nodes if not isinstance(n, ast.FunctionDef)], [])
    scope = top if room == "core" else tree
    places = [place_of(module) for module in imports(without_type_checking(scope))]
    wrong = [place for place in places if place and not allowed(room, place)]
    assert not wrong, f"{room} must not import {wrong}"


def without_type_checking(tree: ast.AST) -> ast.AST:
    """The tree less its ``if TYPE_CHECKING`` blocks: they import nothing when run."""

    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    return Drop().visit(tree)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_importing_a_module_does_no_work(path: Path) -> None:
    """Module level holds definitions, constants and docstrings: no bare calls, no loops."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            # Telling torch about an operation is a definition, the way torch.library has it.
            if ast.unparse(node.value.func).split(".")[-1].startswith("register_"):
                continue
            pytest.fail(f"{path.name}:{node.lineno} calls a function at import")
        assert not isinstance(node, ast.For | ast.While), f"{path.name}:{node.lineno} loops"


def test_core_imports_nothing_heavy_at_module_level() -> None:
    heavy = {"torch", "numpy", "h5py", "av", "open_clip", "torchvision", "safetensors", "triton"}
    for path in sorted((ROOT / "core").rglob("*.py")):
        tree = without_type_checking(ast.parse(path.read_text()))
        top = ast.Module([n for n in tree.body if not isinstance(n, ast.FunctionDef)], [])
        classes = [n for n in ast.walk(top) if isinstance(n, ast.FunctionDef)]
        inside = {id(sub) for function in classes for sub in ast.walk(function)}
        names = {
            module.split(".")[0]
            for node in ast.walk(top)
            if id(node) not in inside and isinstance(node, ast.Import | ast.ImportFrom)
            for module in imports(ast.Module([node], []))
        }
        if path.name == "sampling.py":
            names.discard("numpy")  # the samplers are numpy functions; no command imports them
        assert not names & heavy, f"{path} imports {names & heavy}"
