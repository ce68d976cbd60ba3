"""What is printed: foreign text is shown and does nothing, and no way of ending is a traceback."""

import ast
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from c4c.core.errors import C4CError
from c4c.core.progress import Progress, say
from c4c.core.terminal import visible
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import plan_scenes, write_video
from c4c.extract.datasets.shapes_render import render_clip
from c4c.retrieval.page import page, table
from c4c.study.report import plain

ROOT = Path(__file__).resolve().parents[2]
C4C = [sys.executable, "-m", "c4c"]
# Window title, clear screen, 8-bit CSI, right-to-left override, backspace, line separator, a byte
# that is not UTF-8, and a line that looks like one of ours.
EVIL = "\x1b]0;x\x07\x1b[2J\x9b31m\u202e\b\u2028\udcff\rc4c: ok\n"


def run(args: list[str], cwd: Path | None = None, shell: str = "") -> subprocess.CompletedProcess:
    command = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "c4c", *C4C, *args]
    return subprocess.run(
        command, capture_output=True, cwd=cwd, timeout=120, stdin=subprocess.DEVNULL
    )


def harmless(data: bytes) -> str:
    """Printed text, once nothing in it but ends of lines is obeyed by a terminal."""
    text = data.decode("utf-8")
    odd = {one for one in text if not one.isprintable()} - {"\n", "\xa0", "\u3000"}
    assert not odd, f"{odd} in {text!r}"
    return text


def test_text_that_shows_is_left_as_it_is() -> None:
    for text in ("a dog runs", "süß 犬 كلب", "👩\u200d💻", "می\u200cرود", "wide\u3000space"):
        assert visible(text) == text


def test_whatever_a_terminal_obeys_is_escaped() -> None:
    for code in [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x202A, 0x202E, 0x2066, 0x2028, 0x2029]:
        shown = visible(f"a{chr(code)}b")
        assert shown.isprintable()
        assert shown.encode("ascii").decode("unicode_escape") == f"a{chr(code)}b"
    assert visible("\udcff\U000e0041") == "\\udcff\\U000e0041"


def test_words_and_progress_are_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    with Progress(EVIL, 1) as progress:
        progress.step(extra=EVIL)
    lines = capsys.readouterr().err
    assert harmless(lines.encode()).count("\n") == 2


def test_pages_show_foreign_text_and_obey_none_of_it() -> None:
    evil = EVIL + "<script>|`*_x_[a](http://b)"
    held = page(evil, evil, [table([[evil]])]) + plain(evil)
    harmless(held.replace("\n", "").encode())
    assert "<script>" not in held.lower()
    assert plain("a|b *c* [d](e)") == "a\\|b \\*c\\* [d\\](e)"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose videos and captions have such names and texts."""
    here = tmp_path_factory.mktemp("evil")
    (here / "videos").mkdir()
    scene = plan_scenes(Recipe(train=1, val=0, test=0))[0]
    write_video(here / "plain.mp4", render_clip(scene.events, scene.look))
    shutil.copy(here / "plain.mp4", here / "videos" / f"good {EVIL}.mp4")
    (here / "videos" / f"bad {EVIL}.mp4").write_bytes(b"no video")
    shutil.copy(here / "plain.mp4", here / "videos" / "told.mp4")
    row = {"video": "told.mp4", "caption": f"a {EVIL[:-2]} dog", "split": EVIL[:8]}
    (here / "captions.jsonl").write_text(json.dumps(row).replace("\\udcff", "") + "\n")
    return here


CACHE = "c" + EVIL.replace("\udcff", "")
EXTRACT = ["extract", "--dataset", "folder", "--root", "videos", "--cache", CACHE,
           "--backbone", "tiny", "--workers", "1"]  # fmt: skip


def test_no_command_prints_foreign_text_as_it_is(
    evil: Path, c4c: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of videos, clips, splits and folders, captions, reasons of failures, arguments."""
    monkeypatch.chdir(evil)
    captions = ["--captions", "captions.jsonl"]
    done = [
        c4c(*args)
        for args in (
            [*EXTRACT, "--cache", "told" + EVIL[:8], *captions],
            ["retrieve", "--evaluate", "--cache", "told" + EVIL[:8], "--json", "a.json"],
            ["compare", "a.json", "a.json", "--html", "page.html"],
            EXTRACT,
            ["cache", "info", CACHE],
            ["cache", "verify", CACHE],
            ["cache", "compact", CACHE],
            ["cache", "info", CACHE + EVIL],
            ["dataset", "check", "folder", "--root", "videos", *captions],
            ["study", EVIL, "--dataset", "folder"],
            ["compare", EVIL, EVIL],
            ["retrieve", EVIL, "--split", EVIL, "--cache", CACHE],
            [EVIL],
            ["retrieve", "a dog", "--cache", CACHE],
        )
    ]
    printed = [harmless((one.out + one.err).encode()) for one in done]
    assert sum("\\x1b]0;x\\x07" in text for text in printed[:-1]) >= 9
    assert [one.code for one in done] == [3, 0, 0, 3, 0, 0, 0, 2, 0, 2, 2, 2, 2, 0]
    hits = [json.loads(line) for line in done[-1].out.splitlines()]
    assert any(EVIL[:8] in hit["path"] for hit in hits)  # data stays exact


def test_a_table_of_hits_shows_names(evil: Path) -> None:
    ours, theirs = pty.openpty()
    args = [*C4C, "retrieve", "a dog", "--whole", "--cache", CACHE]
    with subprocess.Popen(args, stdout=theirs, stderr=subprocess.PIPE, cwd=evil) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
        process.wait(60)
    os.close(ours)
    text = harmless(shown.replace(b"\r\n", b"\n"))
    assert "\\x1b]0;x\\x07" in text
    assert len(text.splitlines()) == 3  # the heading, and the two that could be decoded


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 4096)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    ("shell", "code", "words"),
    [
        (">&-", 2, "standard output is closed"),
        (">/dev/full", 2, "No space left"),
        ("| (exec <&-; sleep 2)", 141, ""),
        (">/dev/full 2>/dev/full", 2, ""),
        ("2>&- >&-", 2, ""),
        ("<&-", 0, ""),
    ],
)
def test_results_that_cannot_be_written_are_a_line_and_a_status(
    shell: str, code: int, words: str, small_root: Path
) -> None:
    done = run(["dataset", "check", "shapes", "--root", str(small_root)], shell=shell)
    said = done.stderr.decode()
    assert (done.returncode, "Traceback" in said) == (code, False), said
    assert len(said.splitlines()) == bool(words)
    assert words in said


def test_hits_for_nobody_end_as_a_broken_pipe(small_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "many").write_text("a red circle\n" * 2000)  # answers fill more than a pipe
    args = ["retrieve", "--queries", str(tmp_path / "many"), "--cache", str(small_cache)]
    run(["retrieve", "a red circle", "--cache", str(small_cache)])  # which makes the gallery
    done = run(args, shell="| head -1")
    assert (done.returncode, done.stderr) == (141, b"")
    assert json.loads(done.stdout)["rank"] == 1


@pytest.mark.parametrize("args", [["--help"], ["extract", "--help"], ["--version"]])
def test_help_without_a_reader_ends_as_a_broken_pipe(args: list[str]) -> None:
    assert run(args, shell="| (exec <&-; sleep 2)").returncode == 141


def test_words_never_go_to_standard_output(tmp_path: Path) -> None:
    done = run(["cache", "info", str(tmp_path)], shell="2>&-")
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_closed_standard_file_is_nobodys_file(small_root: Path, tmp_path: Path) -> None:
    """Were it left closed, the first file that is opened would get what is said to it."""
    args = ["dataset", "make", "shapes", "--root", str(tmp_path / "made"), "--train", "2"]
    done = run([*args, "--val", "0", "--test", "0"], shell="<&- >&- 2>&-")
    assert done.returncode == 0
    rows = (tmp_path / "made" / "captions.jsonl").read_text().splitlines()
    assert [json.loads(row)["clip"] for row in rows] == ["train-00000", "train-00001"]


@pytest.mark.parametrize("device", ["zzz", "cuda:9", "cuda:zzz", "meta", "cpu,cuda:9", ","])
@pytest.mark.parametrize("command", ["retrieve", "train-head", "train-e2e", "extract", "study"])
def test_a_device_that_is_not_there_is_one_line_for_every_command(
    command: str, device: str, c4c: Any, small_cache: Path, small_root: Path, tmp_path: Path
) -> None:
    data = ["--dataset", "shapes", "--root", str(small_root), "--backbone", "tiny"]
    cache = ["--cache", str(small_cache)]
    args = {
        "retrieve": ["a dog", *cache],
        "train-head": ["--head", "seqLSTM", "--out", str(tmp_path / "out"), *cache],
        "train-e2e": ["--head", "meanP", "--out", str(tmp_path / "out"), *data],
        "extract": [*data, "--cache", str(tmp_path / "cache")],
        "study": ["heads", *data, *cache, "--device", "cpu", "--out", str(tmp_path / "out")],
    }[command]
    done = c4c(command, *args, "--device", device)
    assert done.code == 2
    assert len([line for line in done.err.splitlines() if line.startswith("c4c: ")]) == 1
    several = command == "extract" and device == "cpu,cuda:9"
    named = "cuda:9" if several else device.strip(",")
    assert "--device " in done.err
    assert f"{named} cannot be used" in done.err or (not named and "cannot be used" in done.err)
    assert not (tmp_path / "out").exists()  # and nothing was begun


@pytest.mark.parametrize(
    "args",
    [
        ["retrieve", "\udcff"],
        ["study", "\udcff", "--dataset", "shapes"],
        ["extract", "--dataset", "\udcff"],
        ["train-head", "--head", "\udcff"],
        ["cache", "info", "\udcff"],
        ["import-checkpoint", "\udcff", "--out", "\udcff"],
        ["compare", "\udcff", "\udcff"],
        ["--device", "\udcff"],
    ],
    ids=lambda args: args[0],
)
def test_an_argument_that_is_not_utf8_is_one_line(
    args: list[str], c4c: Any, small_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cached = ["--cache", str(small_cache)] if args[0] in ("retrieve", "train-head") else []
    done = c4c(*args, *cached)
    assert done.code == 2
    assert len(harmless(done.err.encode()).splitlines()) == 1


def test_printing_in_an_ascii_locale_is_no_error(evil: Path) -> None:
    (evil / "süß").mkdir()
    done = subprocess.run(
        [*C4C, "dataset", "check", "folder", "--root", "süß", "--split", "犬"],
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        capture_output=True, timeout=120, cwd=evil,
    )  # fmt: skip
    assert done.returncode in (0, 2)
    assert b"Traceback" not in done.stderr


def test_nothing_else_prints() -> None:
    """So that no text finds a way around ``tell``, ``say`` and ``Progress``."""
    rooms = ("core", "extract", "heads", "kernels", "retrieval", "serve", "study", "training")
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    printing = name in ("print", "click.echo", "click.secho", "sys.stdout.write")
                    allowed = path.name in ("progress.py", "terminal.py")
                    assert not printing or allowed, f"{path}:{node.lineno} prints"


def test_an_error_names_a_file_whatever_its_name(tmp_path: Path) -> None:
    from c4c.core.files import read_json

    with pytest.raises(C4CError) as caught:
        read_json(tmp_path / EVIL)
    assert visible(str(caught.value)).isprintable()
