"""The command line as a user meets it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from c4c.cli import COMMANDS, HELP

C4C = [sys.executable, "-m", "c4c"]
BARE = "import click\n@click.command()\ndef main():\n    'Bare.'\nmain(['--help'])"


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*C4C, *args], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_that_imports_nothing_heavy(name: str) -> None:
    code = (
        "import sys\nfrom c4c.cli import group\n"
        f"try:\n    group.main([{name!r}, '--help'], prog_name='c4c')\n"
        "except SystemExit as leave:\n    assert leave.code == 0\n"
        "heavy = {'torch', 'h5py', 'av', 'open_clip'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage: c4c" in done.stdout


def test_the_table_of_commands_is_the_help() -> None:
    shown = run("--help").stdout
    for name, words in HELP.items():
        assert name in shown
        assert words.split()[0] in shown


def test_help_loads_few_modules_beyond_click() -> None:
    def modules(code: str) -> int:
        tail = "\nexcept SystemExit: pass\nimport sys; print(len(sys.modules), file=sys.stderr)"
        body = "try:\n" + "\n".join(f"    {line}" for line in code.splitlines()) + tail
        done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
        return int(done.stderr.split()[-1])

    bare = modules(BARE)
    ours = modules("from c4c.cli import group\ngroup.main(['--help'])")
    assert ours < bare + 25


def test_an_unknown_command_is_one_line_and_exit_2() -> None:
    done = run("extrakt")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_dataset_without_a_place_says_where_it_looked(tmp_path: Path) -> None:
    done = run("extract", "--dataset", "lsmdc", cwd=tmp_path)
    assert done.returncode == 2
    assert "--root" in done.stderr
    assert "C4C_DATA" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_c4c_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "c4c.toml").write_text("[extract\n")
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 2
    assert "c4c.toml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_table_in_c4c_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c4c.toml").write_text("[extrakt]\nfps = 2\n")
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 2
    assert "extrakt" in done.stderr


def test_doctor_finds_a_working_installation() -> None:
    begun = time.monotonic()
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert "tiny backbone" in done.stdout
    assert time.monotonic() - begun < 110


def test_a_byte_order_mark_in_c4c_toml_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "c4c.toml").write_bytes(b"\xef\xbb\xbf[datasets.msvd]\nroot = 'nowhere'\n")
    done = run("dataset", "check", "msvd", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not in nowhere (from c4c.toml [datasets.msvd])" in done.stderr
