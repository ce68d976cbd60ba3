"""The house as its plan has it: who imports whom, no circles, no work at import.

Read off the source. Every import counts, those inside functions too; only ``if TYPE_CHECKING``
blocks, which import nothing when run, do not. No file is an exception.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# From the foundation to the roof: what each place may import besides itself, all of it lower.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "cache": {"core"},
    "kernels": {"core.errors"},
    "heads": {"core", "kernels"},
    "extract.datasets": {"core"},
    "extract.video": {"core"},
    "extract.backbone": {"core"},
    "extract": {
        "core",
        "cache",
        "kernels",
        "extract.datasets",
        "extract.video",
        "extract.backbone",
    },
    "extract.engines": {"core", "cache", "extract", "extract.backbone"},
    "interop": {"core", "heads", "extract.backbone"},
    "retrieval": {"core", "cache", "kernels", "heads", "extract.video", "extract.backbone"},
    "serve": {"core", "cache", "retrieval", "extract.video"},
    "training": {
        *("core", "cache", "kernels", "heads", "retrieval.metrics", "retrieval.notes"),
        *("extract.datasets", "extract.video", "extract.backbone"),
    },
    "study": {"core", "cache", "heads", "extract", "extract.datasets", "retrieval", "training"},
    "face": {
        *("core", "cache", "heads", "extract", "retrieval", "training"),
        *("extract.datasets", "extract.video", "extract.engines"),
    },
    "cli": {
        "face",
        *("core", "cache", "kernels", "heads", "extract", "interop", "retrieval", "training"),
        *(
            "extract.datasets",
            "extract.video",
            "extract.backbone",
            "extract.engines",
            "study",
            "serve",
        ),
    },
}
FACE = "src/c4c/__init__.py"  # the package's lazy face and ``python -m c4c`` stand above the roof
ROOMS = sorted({place.split(".")[0] for place in ARROWS})
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
HEAVY = {"torch", "numpy", "h5py", "av", "open_clip", "torchvision", "safetensors", "triton"}


def place_of(module: str) -> str:
    """The innermost place that holds a module: ``extract.video.decode`` is in ``extract.video``."""
    names = [place for place in ARROWS if module == place or module.startswith(place + ".")]
    return max(names, key=len)


def module_of(path: Path) -> str:
    """``extract/video/decode.py`` to ``extract.video.decode``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in SOURCES}


class _AtRun(ast.NodeVisitor):
    """Imports of a file that happen when it runs, as the modules they name."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "relative imports hide which room is meant"
        for alias in node.names:
            below = f"{node.module}.{alias.name}"  # ``from c4c.kernels import native``: a module
            known = below.removeprefix("c4c.") in modules()
            self.found.append(below if known else str(node.module))


def imports(tree: ast.AST) -> list[str]:
    """Every module that a tree imports when it runs."""
    visitor = _AtRun()
    visitor.visit(tree)
    return visitor.found


def of_c4c(tree: ast.AST) -> Iterator[str]:
    """Those of c4c, less the prefix; the face itself is ``""``."""
    for module in imports(tree):
        if module == "c4c" or module.startswith("c4c."):
            yield module.removeprefix("c4c").lstrip(".")


def wrong_arrows(path: Path, source: str) -> list[str]:
    """Imports of a file that the plan does not have."""
    place = place_of(module_of(path))
    allowed = ARROWS[place]
    return [
        module or "c4c"
        for module in of_c4c(ast.parse(source))
        if not module
        or (place_of(module) != place and place_of(module) not in allowed and module not in allowed)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_the_plan_allows(path: Path) -> None:
    wrong = wrong_arrows(path, path.read_text())
    assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/files.py", "from c4c.study.run import run_study"),
        ("core/config.py", "import c4c"),
        ("cache/open.py", "from c4c.extract.video import decode"),
        ("retrieval/metrics.py", "from c4c.training.loop import Run"),
        ("extract/video/decode.py", "from c4c.extract.pipeline import run_extract"),
        ("study/run.py", "from c4c.cli import app"),
    ],
)
def test_an_upward_import_inside_a_function_is_seen(file: str, line: str) -> None:
    planted = f"{(ROOT / file).read_text()}\n\ndef planted():\n    {line}\n"
    assert wrong_arrows(ROOT / file, planted)


def test_the_plan_has_no_circle_and_lists_lower_places_first() -> None:
    order = list(ARROWS)
    for place, below in ARROWS.items():
        for other in below:
            assert order.index(place_of(other)) < order.index(place), f"{place} -> {other} runs up"


def test_no_module_reaches_itself_through_imports() -> None:
    arrows = {
        name: {other for other in of_c4c(ast.parse(path.read_text())) if other in modules()}
        for name, path in modules().items()
    }
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, "a circle: " + " -> ".join((*trail, name))
        state[name] = 1
        for other in sorted(arrows[name]):
            visit(other, (*trail, name))
        state[name] = 2

    for name in sorted(arrows):
        visit(name, ())


def test_every_room_is_linked_into_the_package() -> None:
    package = ROOT / "src" / "c4c"
    links = {path.name for path in package.iterdir() if path.is_symlink()}
    assert links == set(ROOMS)
    for name in links:
        assert (package / name).resolve() == ROOT / name


def test_a_new_room_is_in_the_plan() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"}
    assert rooms == set(ROOMS)


@pytest.mark.parametrize(
    "path", [*SOURCES, ROOT / FACE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_importing_a_module_does_no_work(path: Path) -> None:
    """Module level holds definitions, constants and docstrings: no bare calls, no loops."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            # Telling torch about an operation is a definition, the way torch.library has it.
            if ast.unparse(node.value.func).split(".")[-1].startswith("register_"):
                continue
            pytest.fail(f"{path.name}:{node.lineno} calls a function at import")
        assert not isinstance(node, ast.For | ast.While), f"{path.name}:{node.lineno} loops"


def test_no_source_file_is_longer_than_its_limit() -> None:
    """What needs more has two topics: split it by them."""
    lengths = {module_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


class _AtImport(_AtRun):
    """Imports that happen when the file is imported: not those inside functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)

    visit_AsyncFunctionDef = visit_FunctionDef


@pytest.mark.parametrize("room", ["core", "cli"])
def test_the_ends_of_the_house_import_nothing_heavy(room: str) -> None:
    """``c4c --help`` answers at once: neither foundation nor roof load a library of weight."""
    for path in sorted((ROOT / room).rglob("*.py")):
        visitor = _AtImport()
        visitor.visit(ast.parse(path.read_text()))
        names = {module.split(".")[0] for module in visitor.found}
        assert not names & HEAVY, f"{path} imports {names & HEAVY}"
