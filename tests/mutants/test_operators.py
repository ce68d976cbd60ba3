"""The mistakes that are planted: each rule by hand, and what is left alone."""

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    import operators

    return operators


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a < b", {"a <= b"}),
        ("a is not None", {"a is None"}),
        ("a not in b", {"a in b"}),
        ("a and b", {"a or b"}),
        ("a + b * c", {"a - b * c", "a + b / c"}),
        ("not a", {"a"}),
        ("x = 3", {"x = 4"}),
        ("x = True", {"x = False"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = a[low:high]", {"x = a[(low) + 1:high]", "x = a[low:(high) + 1]"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = f(a, key=b)", {"x = f(a, )"}),
        ("x = sorted(a)", {"x = a"}),
        ("x = a.clone()", {"x = a"}),
        ("x = self.clone()", set()),
        ("x = len(a)", set()),
        ("x = Kind(a)", set()),
        ("f(a)", {"a", "pass"}),
        ("x += y", {"pass"}),
        ("a.b = c", {"pass"}),
        ("raise ValueError(a + 1)", {"pass", "raise ValueError(a - 1)", "raise ValueError(a + 2)"}),
        ("x = b if a else c", {"x = b if not (a) else c"}),
        ('x = f"{a + 1}"', set()),
        ('x = "text"', set()),
        ("say(a + 1)", {"pass"}),
        ("x: Literal[3] = y", set()),
        ("import a", set()),
        ("x = f(a, device=b)", set()),
    ],
)
def test_each_rule(line: str, expected: set[str], operators: Any) -> None:
    source = f'"""About 1."""\n{line}\n'.encode()
    found = operators.mutants_of("room/file.py", source)
    assert {one.after for one in found} == expected
    for mutant in found:
        assert (mutant.line, mutant.before) == (2, line)
        assert mutant.apply(source).decode() == f'"""About 1."""\n{mutant.after}\n'
        assert operators.compiles(mutant.apply(source))


def test_a_condition_is_turned_round_once(operators: Any) -> None:
    source = b"if a == b:\n    x = 1\nelif ready(c):\n    x = 1\n"
    told = [one.after for one in operators.mutants_of("f.py", source)]
    assert told == ["if a != b:", "x = 2", "elif not (ready(c)):", "elif c:"]


def test_a_mutant_keeps_its_name_when_other_lines_change(operators: Any) -> None:
    one = operators.mutants_of("room/f.py", b"x = 1\n")
    two = operators.mutants_of("other/f.py", b"y = z\n\nx = 1\n")
    assert [mutant.id for mutant in one] == [mutant.id for mutant in two]
    assert operators.mutants_of("g.py", b"x = 1\n")[0].id != one[0].id


def test_names_beyond_ascii_do_not_shift_an_edit(operators: Any) -> None:
    source = 'x = "↦é", 1\n'.encode()
    (mutant,) = operators.mutants_of("f.py", source)
    assert mutant.apply(source).decode() == 'x = "↦é", 2\n'


def test_the_list_fits_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or mistakes of a room that has moved are no longer planted, without a word."""
    monkeypatch.syspath_prepend(HERE)
    from plan import LIST, Plan, tracked

    root = HERE.parents[1]
    plan = Plan(root)
    assert plan.stale == []
    outside = ("tests/", "benchmarks/", "src/", ".", "setup.py")
    sources = [path for path in tracked(root) if path.endswith(".py")]
    own = [path for path in sources if not path.startswith(outside)]
    untested = [path for path in own if not plan.tests_for(path)]
    assert [path for path in untested if not path.endswith("__init__.py")] == []
    table = tomllib.loads(LIST.read_text(encoding="utf-8"))["tests"]
    assert [key for key in table if not any(fnmatch(path, key) for path in own)] == []
    named = {one.partition("::")[0] for tests in table.values() for one in tests}
    assert sorted(one for one in named if not (root / one).is_file()) == []


def test_tests_run_on_the_copied_tree_and_a_planted_mistake_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, in a process of its own: it forks after its imports."""
    code = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from bench import Tree
tree = Tree(Path({str(HERE.parents[1])!r}), Path({str(tmp_path / "tree")!r}))
class Planted:
    file = "core/signals.py"
    def apply(self, data):
        return data.replace(b"kind is None", b"kind is not None")
for mutant in (None, Planted()):
    tree.begin(mutant, "tests/core/test_signals.py", (), 100)
    while (verdict := tree.verdict()) is None:
        time.sleep(0.05)
    print(verdict.passed, len(verdict.failures))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["True 0", "False 1"], done.stderr[-2000:]
