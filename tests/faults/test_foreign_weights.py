"""Weights from elsewhere: whatever is in the file, nothing runs, and one line says why, soon."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import open_clip
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn

from c4c.cache.open import create_cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.weights import read_weights
from c4c.interop.convert import import_checkpoint

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")


class Restores(nn.Module):
    """Makes a file and overwrites another one when it is loaded as TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.training = state[1]
        torch.save(torch.ones(3), "made")
        found = torch.from_file("victim", shared=True, size=9, dtype=torch.uint8)
        found.copy_(torch.full([9], 33, dtype=torch.uint8))
        self.w = found.float() + state[0].sum()

    def forward(self, x: Tensor) -> Tensor:
        return x


class Holds(nn.Module):
    """Holds the one that restores itself, beside weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.inner = Restores()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Acts(nn.Module):
    """Does harm when it is called, and holds plain weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        torch.save(torch.ones(3), "made")
        return torch.from_file("victim", shared=True, size=9, dtype=torch.uint8).fill_(33) + x


class Malice:
    """A pickle that makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, ("made",)


def call(module: str, name: str, *arguments: object) -> bytes:
    """A pickle that calls a function of any module, with plain arguments."""
    inner = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02}X\x01\x00\x00\x00wc" + f"{module}\n{name}\n".encode() + inner + b"Rs."


# Names that exist, and do harm or could: torch's own list of safe ones is no guide.
CALLS = [
    call("posix", "mkdir", "made"),
    call("os", "system", "touch made"),
    call("builtins", "eval", "__import__('os').mkdir('made')"),
    call("torch", "save", [1], "made"),
    call("torch", "from_file", "victim", True, 9),
    call("torch", "load", "other.pt"),
    call("torch.jit", "load", "restores.pt"),
    call("torch.storage", "_load_from_bytes", pickle.dumps(Malice())),
    call("torch._utils", "_rebuild_tensor_v2", "no storage", 0, (1,), (1,), False, None),
    call("torch._utils", "_rebuild_wrapper_subclass", 0, 0, (1 << 40,), (1,), 0, 0, 0, False),
    call("torch._utils", "_rebuild_nested_tensor", 0, 0, 0, 0),
    call("torch._utils", "_rebuild_meta_tensor_no_storage", 0, (1,), (1,), False),
    call("torch", "FloatStorage", 1 << 40),
    call("torch", "Tensor", 1 << 40),
    call("builtins", "bytearray", 1 << 40),
    call("__torch__", "Restores", 1),
]
OBJECTS = [
    b"\x80\x02ctorch\nTensor\n)\x81(N)b.",  # a tensor with a state
    b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00a(ibuiltins\neval\n.",
    b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93\x8c\x04made\x85R.",
    b"\x80\x02cc4c.heads.checkpoint\nload_checkpoint\n.",
    b"\x80\x02\x82\x01.",
    b"\x80\x02X\x07\x00\x00\x00storageQ.",
]


def zipped(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(f"archive/{name}", data)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a file that payloads overwrite; in the end nothing is touched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # nobody named weights before
    (tmp_path / "victim").write_bytes(b"echo fine")
    yield tmp_path
    assert (tmp_path / "victim").read_bytes() == b"echo fine"
    assert not (tmp_path / "made").exists()


def payloads(here: Path) -> list[Path]:
    """Files that do harm when they are loaded as TorchScript or as any pickle."""
    torch.jit.script(Restores()).save("restores.pt")
    torch.jit.script(Holds()).save("holds.pt")
    torch.save({"w": torch.ones(2), "x": Malice()}, "saved.pt")
    torch.save({"x": Malice()}, "old.pt", _use_new_zipfile_serialization=False)
    Path("bare.pt").write_bytes(pickle.dumps(Malice(), protocol=2))
    torch.save(nn.Linear(2, 2), "module.pt")
    made = [Path(f"{name}.pt") for name in ("restores", "holds", "saved", "old", "bare", "module")]
    for number, data in enumerate([*CALLS, *OBJECTS, pickle.dumps(Malice(), protocol=2)]):
        made.append(zipped(Path(f"zip{number}.pt"), {"data.pkl": data, "version": b"3\n"}))
        script = {"data.pkl": data, "constants.pkl": pickle.dumps(Malice(), 2), "version": b"3\n"}
        made.append(zipped(Path(f"script{number}.pt"), script))
        made.append(Path(f"stream{number}.pt"))
        made[-1].write_bytes(stream(data))
    return made


def stream(content: bytes, keys: bytes = b"\x80\x02].") -> bytes:
    """A file in torch's old format with this pickle as its content."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    return b"".join(pickle.dumps(one, 2) for one in head) + content + keys


def refusal(*command: str) -> str:
    """The line with which the command refuses; any other outcome fails."""
    result = CliRunner().invoke(group, command)
    assert isinstance(result.exception, C4CError), (command, result.output, result.exception)
    line = str(result.exception)
    assert "\n" not in line
    assert line.isprintable()
    assert "weights_only" not in line  # torch advises to switch the protection off
    return line


def test_the_payload_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the tests below test something."""
    monkeypatch.chdir(tmp_path)
    Path("victim").write_bytes(b"echo fine")
    torch.jit.script(Holds()).save("holds.pt")
    torch.jit.load("holds.pt")
    assert Path("made").exists()
    assert Path("victim").read_bytes() == b"!" * 9


def test_no_payload_runs_in_import_checkpoint_or_extract(here: Path) -> None:
    (here / "v").mkdir()
    (here / "v" / "a.mp4").write_bytes(b"no video")
    found = payloads(here)
    for path in found:
        assert str(path) in refusal("import-checkpoint", str(path), "--out", "own")
        with pytest.raises(C4CError, match=path.name):
            load_backbone("tiny", str(path))
    for path in found[:3]:
        extract = ("extract", "--dataset", "folder", "--root", "v", "--cache", "c")
        assert str(path) in refusal(*extract, "--backbone", "tiny", "--pretrained", str(path))


def test_a_plain_search_opens_no_file_that_a_foreign_cache_names(here: Path) -> None:
    opened: list[str] = []
    listening = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open":
            opened.append(str(arguments[0]))

    torch.jit.script(Restores()).save("restores.pt")
    found = load_backbone("tiny").fingerprint("s", "d")
    for name in (
        "restores.pt",
        str(here / "restores.pt"),
        "../x/w.safetensors",
        "\x1b]0;x\x07\u202e",
    ):
        foreign = here / f"foreign{len(opened)}"
        create_cache(foreign, "folder", found)
        content = json.loads((foreign / "cache.json").read_text())
        content["fingerprint"]["weights"] = name
        (foreign / "cache.json").write_text(json.dumps(content))
        init = load_backbone("tiny").head_init()
        save_file({key: value.contiguous() for key, value in init.items()},
                  foreign / "head-init.safetensors")  # fmt: skip
        sys.addaudithook(hook)
        line = refusal("retrieve", "a red circle", "--cache", str(foreign))
        assert "was not opened" in line
        assert "--pretrained" in line
    listening = False
    assert any(name.endswith("cache.json") for name in opened)  # the hook hears
    assert not [name for name in opened if "restores" in name or "w.safetensors" in name]


@pytest.mark.parametrize("model", ["hf-hub:org/name", "local-dir:evil", "../evil", "\x1b[31m"])
def test_a_foreign_cache_cannot_name_where_a_model_is_fetched_from(model: str, here: Path) -> None:
    (here / "evil").mkdir()
    (here / "evil" / "open_clip_config.json").write_text('{"model_cfg": {}}')
    with pytest.raises(C4CError, match="Unknown backbone") as caught:
        load_backbone(model, "none")
    assert str(caught.value).isprintable()


def test_a_module_that_acts_only_when_called_is_plain_weights(here: Path) -> None:
    torch.jit.script(Acts()).save("acts.pt")
    assert read_weights(Path("acts.pt"))[0]["weight"].tolist() == [1, 1]


def test_code_in_an_archive_is_text(here: Path) -> None:
    """Names of parameters are looked for in it, and nothing else."""
    torch.jit.script(Acts()).save("acts.pt")
    with zipfile.ZipFile("acts.pt") as archive:
        held = {one.split("/", 1)[1]: archive.read(one) for one in archive.namelist()}
    code = next(name for name in held if name.startswith("code/") and name.endswith(".py"))
    for text in (
        b"import os\nos.mkdir('made')\n" + held[code],
        held[code].replace(b'"weight", ', b'torch.save(torch.ones(3), "made"), "weight"'),
        b"class Acts(Module):\n  __parameters__ = [" + b"[" * 100_000 + b"\n" + held[code],
        b"\xff\xfe\x00",
    ):
        zipped(Path("changed.pt"), {**held, code: text})
        assert list(read_weights(Path("changed.pt"))[0]) == ["weight"]


# --- files that claim more than they hold -------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(count: int = 4, key: str = "0", kind: str = "FloatStorage") -> bytes:
    """A storage, on the stack."""
    tag = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    return tag + number(count) + b"tQ"


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def counts(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def view(offset: int, size: bytes, stride: bytes, base: bytes = storage()) -> bytes:
    """A tensor, on the stack."""
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + base + number(offset) + size + stride
            + b"\x89NtR")  # fmt: skip


def table(*items: bytes) -> bytes:
    """A pickle of a table of weights."""
    body = b"".join(text(f"w{place}") + item for place, item in enumerate(items))
    return b"\x80\x02}(" + body + b"u."


def aliases(levels: int, pair: bytes) -> bytes:
    """Each level holds the one below twice; the memo makes that a few bytes."""
    made = b")q\x00"
    for level in range(levels):
        below = b"h" + bytes([level])
        made += (b"(" + below + below + pair) + b"q" + bytes([level + 1])
    return made


def module(attributes: bytes) -> bytes:
    return b"c__torch__\nM\n)\x81}(" + attributes + b"ub"


def module_aliases(levels: int) -> bytes:
    made = module(text("w") + view(0, counts(4), counts(1))) + b"q\x00"
    for level in range(levels):
        below = b"h" + bytes([level])
        made += module(text("a") + below + text("b") + below) + b"q" + bytes([level + 1])
    return b"\x80\x02" + made + b"."


def nested(levels: int) -> bytes:
    inner = (b"h\x00)\x81}(" + text("a")) * levels
    return b"\x80\x02c__torch__\nM\nq\x00" + inner + b"N" + b"ub" * levels + b"."


LONG = 100_000


def pickles() -> dict[str, bytes]:
    """Pickles for a file with one storage of 16 bytes, each of which claims, repeats or loops."""
    whole = counts(4), counts(1)
    call_again = b"ctorch\nSize\nq\x01h\x00R0" * (LONG // 20)
    return {
        "reaches beyond": table(view(0, counts(5), counts(1))),
        "begins beyond": table(view(4, counts(1), counts(1))),
        "steps beyond": table(view(0, counts(2, 2), counts(3, 1))),
        "a negative stride": table(view(3, counts(4), counts(-1))),
        "a negative offset": table(view(-1, *whole)),
        "negative sizes": table(view(0, counts(-4, -1), counts(1, 1))),
        "repeats one number": table(view(0, counts(1 << 40), counts(0))),
        "overflows": table(view(0, counts(1 << 32, 1 << 32), counts(0, 0))),
        "a number of 2,000 bits": table(view(0, counts(1 << 2000), counts(1))),
        "a claim of 4 TB": table(view(0, counts(1 << 40), counts(1), storage(1 << 40))),
        "a negative count": table(view(0, *whole, storage(-1))),
        "another kind": table(view(0, *whole, storage(4, "0", "DoubleStorage"))),
        "two kinds": table(view(0, *whole), view(0, *whole, storage(4, "0", "IntStorage"))),
        "no record": table(view(0, *whole, storage(4, "1"))),
        "a path": table(view(0, *whole, storage(4, "../../../etc/passwd"))),
        "an absolute path": table(view(0, *whole, storage(4, "/etc/passwd"))),
        "70 dimensions": table(view(0, counts(*[1] * 70), counts(*[1] * 70))),
        "a table in itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
        "a module in itself": b"\x80\x02c__torch__\nM\n)\x81q\x00}" + text("a") + b"h\x00sb.",
        "modules that hold each other": module_aliases(60),
        "a hundred levels of modules": nested(100),
        "a long chain of modules": nested(LONG // 12),
        "deep lists": b"\x80\x02" + b"]" * LONG + b"a" * (LONG - 1) + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * LONG + b".",
        "a key that takes for ever to hash": b"\x80\x02" + aliases(60, b"t") + b"0}h\x3cNs.",
        "a storage of that kind": b"\x80\x02" + aliases(60, b"t")
        + b"0(" + text("storage") + b"h\x3c" + text("0") + b"NNtQ.",
        "a set of it": b"\x80\x04" + aliases(60, b"t") + b"0\x8f(h\x3c\x90.",
        "a memo of four billion": b"\x80\x02}r\xff\xff\xff\xff" + b".",
        "a long list named again and again": b"\x80\x02](" + b"N" * LONG + b"eq\x00" + call_again,
        "many arguments again and again": b"\x80\x02(" + b"N" * LONG + b"tq\x00" + call_again,
        "a long storage again and again": b"\x80\x02(" + b"N" * LONG + b"tq\x00"
        + b"h\x00Q0" * (LONG // 4) + b".",
        "a long class name again and again": b"\x80\x04" + b"\x8c\x09__torch__q\x00"
        + text("a" * LONG) + b"q\x01" + b"h\x00h\x01\x93)\x81" * (LONG // 8) + b".",
        "a bytearray of 1 TB": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.",
        "a frame of 1 TB": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.",
        "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xffa.",
        "a number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7fa.",
        "names that steer a terminal": b"\x80\x02}"
        + text("\x1b]0;x\x07") + view(0, *whole) + b"s.",
        "long names that multiply": b"\x80\x02" + module(
            text("a" * LONG) + module(b"".join(text(str(i)) + b"N" for i in range(10_000)))) + b".",
        "no end": table(view(0, *whole))[:-1],
        "a table of nothing": b"\x80\x02}.",
        "nothing": b"",
    }  # fmt: skip


def bombs(folder: Path) -> dict[str, Path]:
    """Files of weights that are to be refused, by what is wrong with them."""
    made, four = {}, bytes(16)
    for place, (what, data) in enumerate(pickles().items()):
        records = {"data.pkl": data, "data/0": four}
        packed = zipfile.ZIP_DEFLATED if len(data) > 100_000 else zipfile.ZIP_STORED
        zipped(folder / f"{place}.pt", {"data/0": four})
        with zipfile.ZipFile(folder / f"{place}.pt", "a") as archive:
            archive.writestr("archive/data.pkl", records["data.pkl"], packed)
        made[what] = folder / f"{place}.pt"
        made[f"{what}, old"] = folder / f"{place}.old.pt"
        keys = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + four
        made[f"{what}, old"].write_bytes(stream(data, keys))
    good = table(view(0, counts(4), counts(1)))
    huge = zipped(folder / "zeros.pt", {"data.pkl": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    script = module(text("w") + view(0, counts(4), counts(1)))
    long_code = {"data.pkl": b"\x80\x02" + script + b".", "data/0": four,
                 "code/__torch__.py": bytes(40 << 20)}  # fmt: skip
    made["a pickle of 64 MB in 64 kB"] = huge
    made["code of 40 MB"] = zipped(folder / "code.pt", long_code, zipfile.ZIP_DEFLATED)
    made["a million records"] = folder / "records.pt"
    records = zipped(folder / "records.pt", {"data.pkl": good, "data/0": four}).read_bytes()
    end = records[-22:]
    start, entry = (
        struct.unpack("<I", end[16:20])[0],
        b"PK\x01\x02" + bytes(24) + b"\1\0" + bytes(16),
    )
    directory = records[start:-22] + (entry + b"a") * 1_000_000
    many = (
        b"PK\x05\x06" + bytes(4) + b"\xff" * 4 + struct.pack("<II", len(directory), start) + b"\0\0"
    )
    made["a million records"].write_bytes(records[:start] + directory + many)
    made["a sparse file of 100 TB"] = folder / "sparse.pt"
    with made["a sparse file of 100 TB"].open("wb") as file:
        file.truncate(15 << 40)
    header = {
        f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(90_000)
    }
    raw = json.dumps(header).encode()
    made["a long header"] = folder / "long.safetensors"
    made["a long header"].write_bytes(struct.pack("<Q", len(raw)) + raw)
    made["a claim in safetensors"] = folder / "claim.safetensors"
    raw = b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    made["a claim in safetensors"].write_bytes(struct.pack("<Q", len(raw)) + raw)
    return made


PROBE = """
import json, resource, sys, time
from pathlib import Path
from c4c.core.errors import C4CError
from c4c.extract.backbone.weights import read_weights
from c4c.interop.convert import import_checkpoint
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in sys.stdin:
    begun = time.monotonic()
    try:
        read_weights(Path(line.rstrip("\\n")))
        said = "read"
    except C4CError as error:
        said = str(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) >> 10
    print(json.dumps([said, time.monotonic() - begun, grown]), flush=True)
"""


def test_what_claims_repeats_or_loops_is_one_line_in_bounded_time_and_memory(
    tmp_path: Path,
) -> None:
    """In one process, whose memory is looked at; an endless reading ends at the deadline."""
    made = bombs(tmp_path)
    done = subprocess.run([sys.executable, "-c", PROBE], input="\n".join(map(str, made.values())),
                          capture_output=True, text=True, timeout=240)  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(made), done.stderr
    for (what, path), (said, _, grown) in zip(made.items(), answers, strict=True):
        assert str(path) in said, what
        assert said.isprintable(), what
        assert grown < 300, f"{what}: {grown} MB"


# --- files that are damaged at random -----------------------------------------------------------


def mutated(data: bytes, random: Random) -> bytes:
    """A few bytes changed, cut out, doubled or moved."""
    made = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, size = random.randrange(len(made)), random.choice((1, 1, 1, 4, 30))
        kind = random.randrange(4)
        if kind == 0:
            made[at : at + size] = random.randbytes(min(size, len(made) - at))
        elif kind == 1:
            del made[at : at + size]
            made = made or bytearray(b"x")
        elif kind == 2:
            made[at:at] = made[at : at + size]
        else:
            made[at : at + 1] = bytes([made[at] ^ 1 << random.randrange(8)])
    return bytes(made)


def small() -> dict[str, Tensor]:
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3).half(), "n": torch.tensor(7)}


def originals() -> list[tuple[str, bytes]]:
    """One of each kind of file, with a suffix, as bytes."""
    torch.save({"epoch": 1, "model": small()}, "zip.pt")
    torch.save(small(), "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))).save("jit.pt")
    save_file(small(), "w.safetensors", {"model": "tiny"})
    return [(path.suffix, path.read_bytes()) for path in map(Path, ("zip.pt", "old.pt", "jit.pt"))
            ] + [(".safetensors", Path("w.safetensors").read_bytes())]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused_in_one_line(here: Path) -> None:
    random = Random(7)
    found = originals()
    with zipfile.ZipFile("jit.pt") as archive:
        pickled = archive.read("jit/data.pkl")
    outcomes = {"read": 0, "refused": 0}
    for number in range(2000):
        suffix, data = found[number % len(found)]
        path = Path(f"damaged{suffix}")
        if number % 5:
            path.write_bytes(mutated(data, random))
        else:  # the pickle alone, in an archive that is whole
            change = {"data.pkl": mutated(pickled, random)}
            change |= {f"data/{place}": bytes(16) for place in range(6)}
            path = zipped(Path("damaged.pt"), change)
        try:
            for tensor in read_weights(path)[0].values():
                tensor.sum()  # every number is within its storage
            outcomes["read"] += 1
        except C4CError as error:
            outcomes["refused"] += 1
            assert str(path) in str(error)
            assert str(error).isprintable()
    assert min(outcomes.values()) > 20, outcomes


def odd(state: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    """A state dict with one weight that is another than it should be, or none."""
    made = dict(state)
    name = random.choice(sorted(made))
    value = made.pop(name)
    shape = list(value.shape)
    for place in range(len(shape)):
        if random.random() < 0.5:
            shape[place] = random.choice((0, 1, 3, 63, 64, 65, 130))
    changes = [
        lambda: None,
        lambda: made.update({name: torch.zeros(shape)}),
        lambda: made.update({name: value[None]}),
        lambda: made.update({name: torch.tensor(1.0)}),
        lambda: made.update({name: value.reshape(-1)}),
        lambda: made.update({name: value.long()}),
        lambda: made.update({name.rsplit(".", 1)[0]: value}),
        lambda: made.update({name: value, f"{name}.more": value}),
        lambda: made.update({name: value, "transformerClip.odd": value}),
        lambda: made.update({name: value, "frame_position_embeddings.weight": torch.zeros(shape)}),
        lambda: made.update({name: value, "visual.conv2.weight": torch.zeros(shape)}),
    ]
    random.choice(changes)()
    return made


def one_layer() -> dict[str, Tensor]:
    """The weights of a CLIP that is built at once."""
    vision = {"image_size": 8, "patch_size": 4, "layers": 1, "width": 64}
    texts = {"context_length": 8, "vocab_size": 300, "layers": 1, "width": 64, "heads": 1}
    return dict(open_clip.CLIP(64, vision, texts).state_dict())


def test_weights_of_odd_names_and_shapes_are_a_clip_or_one_line(here: Path) -> None:
    random = Random(5)
    clip = one_layer()
    refused = 0
    for _ in range(60):
        torch.save(odd(clip, random), "odd.pt")
        for use in (
            lambda: load_backbone("auto", "odd.pt", "cpu"),
            lambda: import_checkpoint(Path("odd.pt"), Path("own"), overwrite=True),
        ):
            try:
                use()
            except C4CError as error:
                refused += 1
                assert "odd.pt" in str(error)
    assert 60 < refused < 120


def test_a_model_larger_than_its_file_is_not_built(here: Path) -> None:
    """Few numbers can ask for many: a mask is as large as the square of the texts' length."""
    clip = one_layer()
    texts = {**clip, "positional_embedding": torch.zeros(1 << 16, 64)}
    layers = {f"visual.transformer.resblocks.{i}.x": torch.zeros(1) for i in range(2000)}
    for state in (texts, {**clip, **layers}):
        torch.save(state, "odd.pt")
        with pytest.raises(C4CError, match="odd.pt.*not a ViT CLIP"):
            load_backbone("auto", "odd.pt", "cpu")
        with pytest.raises(C4CError, match="odd.pt.*not a ViT CLIP"):
            import_checkpoint(Path("odd.pt"), Path("own"))


def test_no_source_of_c4c_loads_what_may_run_code() -> None:
    """torch.load, TorchScript, pickle and numpy's object arrays: none is called anywhere."""
    loaders = re.compile(
        r"torch\.load\(|jit\.load\(|pickle\.loads?\(|\.Unpickler\(|allow_pickle=True|"
        r"(?<![.\w])(eval|exec|__import__)\(|np\.load\(|shell=True|yaml\.load\(|marshal|shelve"
    )
    package = ROOT / "src" / "c4c"
    rooms = [path.resolve() for path in package.iterdir() if path.is_symlink()]
    # A decoder takes its parent's word, over a socket that nobody else can write to.
    trusting = {ROOT / "extract/video/worker_process.py", ROOT / "extract/video/handover.py"}
    found = {
        path for room in rooms for path in room.rglob("*.py") if loaders.search(path.read_text())
    }
    assert found == trusting
