"""The one pickle that is read: plain values in, anything else is an error line and does nothing."""

import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import pytest

from c4c.core.errors import C4CError
from c4c.extract.datasets import load_dataset
from c4c.extract.datasets.unpickle import read_pickle

SAID = {"-4wsuPCjDBc_5_15": [["a", "squirrel"], ["an", "animal", "é😀"]], "b_1_2": [["x"]]}


class Evil:
    """Pickled, it runs ``touch`` when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_captions_are_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(pickle.dumps(SAID, protocol))
    assert read_pickle(path) == SAID
    path.write_bytes(pickletools.optimize(pickle.dumps(SAID, protocol)))
    assert read_pickle(path) == SAID


def test_texts_that_python_2_wrote_are_read_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(b"(dp0\nS'clip_1_2'\np1\n(lp2\n(lp3\nS'caf\\xc3\\xa9'\np4\naas.")
    assert read_pickle(path) == {"clip_1_2": [["café"]]}


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_does_nothing_but_an_error_line(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "test_list.txt").write_text("b_1_2\n")
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(pickle.dumps({**SAID, "c": Evil(mark)}, protocol))
    with pytest.raises(C4CError, match="refused: it asks for .*system") as caught:
        read_pickle(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the proof that it would have
    assert mark.exists()


def test_the_command_line_gives_the_malicious_pickle_one_line_and_exit_2(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "test_list.txt").write_text("b_1_2\n")
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(Evil(mark)))
    command = [sys.executable, "-m", "c4c", "dataset", "check", "msvd", "--root", str(tmp_path)]
    done = subprocess.run([*command, "--split", "test"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("c4c: ")
    assert len(done.stderr.splitlines()) == 1
    assert "system" in done.stderr
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",  # GLOBAL, REDUCE
        b"(S'1'\nibuiltins\neval\n.",  # INST
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",  # STACK_GLOBAL
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02]Pname\n.",  # PERSID
        b"(S'eval'\nS'1'\no.",  # OBJ on a text
        b"\x80\x02X\x01\x00\x00\x00a)\x81.",  # NEWOBJ on a text
        b"\x80\x02]}X\x01\x00\x00\x00a]sb.",  # BUILD on a list
        b"\x80\x02X\xff\xff\xff\x7fa.",  # a text that claims 2 GB
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x00a.",  # bytes that claim 72 PB
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00a.",  # a bytearray likewise
        b"",
        b".",
        b"not a pickle",
        b"\x80\xff].",
    ],
)
def test_anything_but_plain_values_is_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(data)
    with pytest.raises(C4CError, match="raw-captions.pkl") as caught:
        read_pickle(path)
    assert "\n" not in str(caught.value)


def test_a_few_bytes_cannot_claim_memory(tmp_path: Path) -> None:
    """The memo of C's unpickler is an array: this number would make it 64 GB."""
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    assert read_pickle(path) == {}


def aliases(levels: int, pair: bytes) -> bytes:
    """A value that holds the one below twice, and so on: two to the power of the levels in all."""
    made = pair.replace(b"..", b"NN") + b"q\x00"
    for level in range(levels):
        below = b"h" + bytes([level])
        made += pair.replace(b"..", below + below) + b"q" + bytes([level + 1])
    return made


WORD = b"X\x10\x27\x00\x00" + b"a" * 10_000 + b"q\x00"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}X\x01\x00\x00\x00b" + aliases(60, b"](..e") + b"s.",  # lists of lists
        b"\x80\x02}X\x01\x00\x00\x00b" + aliases(60, b"(..t") + b"s.",
        b"\x80\x02" + aliases(60, b"(..t") + b"0}h\x3cNs.",  # hashed, it takes for ever
        b"\x80\x04" + aliases(60, b"(..t") + b"0\x8f(h\x3c\x90.",
        b"\x80\x04(" + aliases(60, b"(..t") + b"\x91.",
        b"\x80\x02}X\x01\x00\x00\x00b]q\x00h\x00as.",  # a list in itself
        b"\x80\x02}X\x01\x00\x00\x00b](" + WORD + b"h\x00" * 50_000 + b"es.",  # 500 MB of text
        b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little") + b"a.",  # a bytearray of 8 GB
    ],
)
def test_a_pickle_that_blows_up_is_one_line_at_once(data: bytes, tmp_path: Path) -> None:
    """In a process of its own, for the deadline."""
    (tmp_path / "test_list.txt").write_text("b\n")
    (tmp_path / "raw-captions.pkl").write_bytes(data)
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from pathlib import Path\nfrom c4c.core.errors import C4CError\n"
        "from c4c.extract.datasets.unpickle import read_pickle\n"
        "try:\n    read_pickle(Path(sys.argv[1]))\nexcept C4CError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "raw-captions.pkl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "raw-captions.pkl" in done.stdout


def test_captions_that_share_words_and_lists_are_whole(tmp_path: Path) -> None:
    words = ["a", "squirrel"] * 10
    said = {f"clip{i}": [words, ["one", f"more {i}"]] for i in range(100)}
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(said))
    assert read_pickle(tmp_path / "raw-captions.pkl") == said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "is a list, expected an object"),
        ({"b_1_2": "text"}, "b_1_2 is 'text', expected a list"),
        ({"b_1_2": [3]}, r"b_1_2\[0\] is 3, expected a text or a list"),
        ({"b_1_2": [[b"x"]]}, r"b_1_2\[0\]\[0\] is bytes, expected a text"),
    ],
)
def test_captions_of_another_shape_are_named(value: object, words: str, place) -> None:
    place.put("test_list.txt", "b_1_2\n")
    place.put("raw-captions.pkl", pickle.dumps(value))
    with pytest.raises(C4CError, match=words):
        load_dataset(place.source("msvd"), "test")


@pytest.mark.parametrize("cut", [1, 2, 10, 50])
def test_a_pickle_cut_short_is_named(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(pickle.dumps(SAID)[:-cut])
    with pytest.raises(C4CError, match="not a pickle of plain values"):
        read_pickle(path)


def nested(value: object, width: int, depth: int) -> object:
    """A list of lists of lists, in which every list is one and the same object again and again."""
    for _ in range(depth):
        value = [value] * width
    return value


def tuples(depth: int) -> object:
    value: object = ("a", "b")
    for _ in range(depth):
        value = (value, value)
    return value


class Collide:
    """Pickled, a dict whose keys all have the hash 0; making it here would take as long."""

    def dumps(self, count: int) -> bytes:
        prime = 2**61 - 1
        pairs = b"".join(pickle.dumps(n * prime, 2)[2:-1] + b"N" for n in range(1, count))
        return b"\x80\x02}(" + pairs + b"u."


ENDLESS = {
    "sentences named again": pickle.dumps({"b_1_2": [["word"] * 10_000] * 10_000}),
    "lists of lists": pickle.dumps({"b_1_2": nested(["w"], 10, 12)}),
    "a long word named again": pickle.dumps({"b_1_2": [["w" * 100_000] * 100_000]}),
    "a list that holds itself": b"\x80\x02}X\x05\x00\x00\x00b_1_2]q\x00h\x00as.",
    "tuples as keys": pickle.dumps(["k", tuples(60)]).replace(b"\x8c\x01k", b"}N"),
    "numbers that collide": Collide().dumps(60_000),
    "a set of tuples": b"\x80\x04\x8f(" + pickle.dumps(tuples(60), 4)[11:-1] + b"\x90.",
    "a frozen set of tuples": b"\x80\x04(" + pickle.dumps(tuples(60), 4)[11:-1] + b"\x91.",
    "a deep list": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
}


@pytest.mark.parametrize("kind", list(ENDLESS))
def test_a_small_file_cannot_make_endless_work(kind: str, tmp_path: Path) -> None:
    """Each took many seconds or for ever, here or in whoever asks for captions."""
    (tmp_path / "test_list.txt").write_text("b_1_2\n")
    (tmp_path / "raw-captions.pkl").write_bytes(ENDLESS[kind])
    command = [sys.executable, "-m", "c4c", "dataset", "check", "msvd", "--root", str(tmp_path)]
    done = subprocess.run([*command, "--split", "test"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "raw-captions.pkl" in done.stderr


def test_words_that_captions_share_are_no_endless_work(tmp_path: Path) -> None:
    """As pickle writes them: each word once, and named again wherever it stands."""
    words = [f"word{number:03d}" for number in range(100)]
    said = {f"clip_{n}_{n}": [words] * 3 + [words[n % 90 :]] for n in range(200)}
    path = tmp_path / "raw-captions.pkl"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(said, protocol))
        assert read_pickle(path) == said


def test_a_huge_file_is_refused_before_it_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "raw-captions.pkl"
    with path.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(C4CError, match="has 68157440 bytes"):
        read_pickle(path)
