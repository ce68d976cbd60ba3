"""The command line as a user meets it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm

from c4c.cli.app import COMMANDS, HELP, main

C4C = [sys.executable, "-m", "c4c"]
BARE = "import click\n@click.command()\ndef main():\n    'Bare.'\nmain(['--help'])"


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*C4C, *args], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_that_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    """Also where ``c4c.toml`` gives other defaults, which the help shows."""
    (tmp_path / "c4c.toml").write_text(
        "[datasets.lsmdc]\nroot = 'lsmdc'\n[extract]\nfps = 7.5\n[cache.export]\nformat = 'npy'\n"
    )
    code = (
        "import sys\nfrom c4c.cli.app import group\n"
        f"try:\n    group.main([{name!r}, '--help'], prog_name='c4c')\n"
        "except SystemExit as leave:\n    assert leave.code == 0\n"
        "heavy = {'torch', 'h5py', 'av', 'open_clip'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: c4c" in done.stdout
    assert ("7.5" in done.stdout) == (name == "extract")


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
    ours = modules("from c4c.cli.app import group\ngroup.main(['--help'])")
    assert ours < bare + 25


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["extrakt"],
            "c4c: There is no command 'extrakt'; did you mean 'extract'? See: c4c --help",
        ),
        (["cache", "inof"], "c4c: No such command 'inof'"),
        (["extract", "--bogus"], "c4c: No such option '--bogus'. See: c4c extract --help"),
        (["extract", "--decodr", "x"], "'--decoder'"),
        (["extract"], "c4c: Pass a folder of videos, c4c extract DIR, or --dataset NAME."),
        (["extract", "--dataset"], "c4c: Option '--dataset' requires an argument"),
        (
            ["retrieve", "--top-k", "x"],
            "'x' is not a valid integer. See: c4c retrieve --help",
        ),
        (["index", "a", "b"], "unexpected extra argument (b)"),
        (["cache", "export", "--format", "nix"], "See: c4c cache export --help"),
        (["study", "heads", "--dataset", "shapes", "--slice", "3"], "not of the form i/n"),
        (["study", "heads", "--dataset", "shapes", "--slice", "16/16"], "are counted from 0"),
        (["extract", "--dataset", "folder", "--shard-slice", "16/16"], "are counted from 0"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(
    args: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["c4c", *args])
    with pytest.raises(SystemExit) as leave:
        main()
    out, words = capsys.readouterr()
    assert (leave.value.code, out) == (2, "")
    assert words.startswith("c4c: ")
    assert words.count("\n") == 1
    assert line in words


def test_without_a_command_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["c4c"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 2
    assert "Usage: c4c" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shell", "typed", "offered"),
    [
        ("bash", "c4c tra", {"train-head", "train-e2e"}),
        ("zsh", "c4c cache co", {"compact"}),
        ("fish", "c4c retrieve --ra", set()),
        ("bash", "c4c retrieve --rer", {"--rerank"}),
        ("bash", "c4c retrieve --rerank q", {"qbnorm"}),
    ],
)
def test_a_shell_completes_commands_options_and_choices(
    shell: str,
    typed: str,
    offered: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = typed.split()
    monkeypatch.setenv("_C4C_COMPLETE", f"{shell}_source")
    assert complete(monkeypatch, capsys).count("_C4C_COMPLETE") >= 1
    monkeypatch.setenv("_C4C_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
    found = complete(monkeypatch, capsys)
    assert {one for one in offered if one in found} == offered
    assert offered or not found.strip()


def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a shell that completes gets from ``c4c``."""
    monkeypatch.setattr(sys, "argv", ["c4c"])
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().out


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
    done = warm.run([*C4C, "doctor"])
    assert done.returncode == 0, done.stdout
    assert "tiny backbone" in done.stdout
    assert time.monotonic() - begun < 110


def test_a_byte_order_mark_in_c4c_toml_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "c4c.toml").write_bytes(b"\xef\xbb\xbf[datasets.msvd]\nroot = 'nowhere'\n")
    done = run("dataset", "check", "msvd", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not in nowhere (from c4c.toml [datasets.msvd])" in done.stderr


def test_exports_of_an_evaluation_are_not_for_a_search(tmp_path: Path) -> None:
    for option in ("--trec", "--similarity", "--json"):
        done = run("retrieve", "a dog", option, str(tmp_path / "x"), cwd=tmp_path)
        assert done.returncode == 2
        assert "for --evaluate" in done.stderr
