"""torch's files are read without torch's loaders, and give what those give, bit for bit."""

import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.tiny import CONFIG
from c4c.extract.backbone.weights import read_weights

State = dict[str, Tensor]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")


def same(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert torch.equal(found[name], value), name


def tensors() -> State:
    """One of each kind of number that is read, and every way to lie in a storage."""
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64]
    kinds += [torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    return {
        **{str(kind): torch.tensor([[1, 0, 1]]).to(kind) for kind in kinds},
        "transposed": whole.T,
        "a row": whole[2],
        "a column": whole[:, 3],
        "the whole of it": whole,
        "scalar": torch.tensor(4.5),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.ones(2)),
    }


OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("how", [{}, OLD, {"pickle_protocol": 4}])
def test_a_saved_state_dict_is_read_as_torch_reads_it(how: dict, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(tensors(), path, **how)
    found, known = read_weights(path)
    same(found, tensors())
    assert known == {}
    # Views of one storage share it, as they do after torch.load.
    assert found["a row"].data_ptr() == found["the whole of it"][2].data_ptr()


def test_a_modules_state_dict_with_all_that_torch_adds_is_read(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "w.pt")  # an OrderedDict with _metadata
    same(read_weights(tmp_path / "w.pt")[0], dict(module.state_dict()))


@pytest.mark.parametrize("how", [{}, OLD])
def test_plain_values_beside_the_weights_do_not_matter(how: dict, tmp_path: Path) -> None:
    tagged = torch.ones(2)
    tagged.note = "kept by torch as an attribute"
    beside = {"set": {1, 2}, "size": torch.Size([1]), "device": torch.device("cuda:1"), "z": 1 + 2j}
    beside |= {"kind": torch.float16, "bytes": b"abc", "array": bytearray(b"ab"), (1, 2): "odd"}
    beside |= {"counter": Counter("aab"), "ordered": OrderedDict(a=1), "deep": [[({"a": None},)]]}
    torch.save({"epoch": 3, **beside, "state_dict": {"tagged": tagged}}, tmp_path / "w.pt", **how)
    same(read_weights(tmp_path / "w.pt")[0], {"tagged": torch.ones(2)})


def test_a_file_saved_without_checksums_is_read(tmp_path: Path) -> None:
    from torch.utils.serialization import config

    try:
        config.save.compute_crc32 = False
        torch.save(tensors(), tmp_path / "w.pt")
    finally:
        config.save.compute_crc32 = True
    same(read_weights(tmp_path / "w.pt")[0], tensors())


class Inner(nn.Module):
    """Has a tensor of each standing; only the first two are state."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.register_buffer("running", torch.randn(2).half())
        self.plain = torch.randn(2)
        self.listed = [1, 2]
        self.table = {"a": torch.ones(1)}

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight + self.running + self.plain


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Inner(), Inner())
        self.again = self.blocks
        self.linear = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.linear(self.blocks(x).float()) * self.scale)


def traced(module: nn.Module, *inputs: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: torch.jit.ScriptModule = torch.jit.trace(module, inputs, check_trace=False)
        return made


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: traced(m, torch.ones(2))])
def test_a_torchscript_archive_gives_its_state_dict(
    make: Callable[[nn.Module], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    make(Outer()).save(tmp_path / "m.pt")
    found, known = read_weights(tmp_path / "m.pt")
    wanted = torch.jit.load(tmp_path / "m.pt").state_dict()
    assert "blocks.0.running" in wanted
    assert "blocks.0.plain" not in wanted
    same(found, dict(wanted))
    assert known == {"quick_gelu": "true"}


@pytest.mark.parametrize("how", ["trace", "script"])
def test_a_clip_archive_made_as_openai_made_theirs_is_the_same_backbone(
    how: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    clip = open_clip.CLIP(**{**CONFIG, "quick_gelu": True}).eval()
    size, length = CONFIG["vision_cfg"]["image_size"], CONFIG["text_cfg"]["context_length"]
    inputs = torch.zeros(1, 3, size, size), torch.zeros(1, length, dtype=torch.long)
    made = traced(clip, *inputs) if how == "trace" else torch.jit.script(clip)
    made.half().save(tmp_path / "ViT.pt")
    wanted = dict(torch.jit.load(tmp_path / "ViT.pt").state_dict())
    del wanted["attn_mask"]  # follows from the length of texts: no weight
    same(read_weights(tmp_path / "ViT.pt")[0], wanted)
    backbone = load_backbone("auto", str(tmp_path / "ViT.pt"), "cpu", "float32")
    same(
        {key: value.half() for key, value in backbone.model.state_dict().items()},
        {key: value.half() for key, value in clip.state_dict().items()},
    )


def change(path: Path, name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace one record of a zip; the others stay as they are."""
    with zipfile.ZipFile(path) as before:
        held = {one.filename: before.read(one) for one in before.infolist()}
    with zipfile.ZipFile(path, "w") as after:
        for key, value in held.items():
            mine = key.split("/", 1)[1] == name
            after.writestr(key, data if mine else value, compression if mine else None)


def test_a_changed_byte_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"w": torch.full((100,), 7.0)}, path)
    data = path.read_bytes()
    at = data.index(torch.full((9,), 7.0).numpy().tobytes())
    path.write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    with pytest.raises(C4CError, match="data/0 is damaged"):
        read_weights(path)


@pytest.mark.parametrize(
    ("name", "data", "compression", "words"),
    [
        ("data/0", bytes(396), zipfile.ZIP_STORED, "claims 400 bytes .*, which has 396"),
        ("data/0", bytes(404), zipfile.ZIP_STORED, "claims 400 bytes .*, which has 404"),
        ("data/0", bytes(400), zipfile.ZIP_DEFLATED, "compressed; save it again"),
        ("byteorder", b"big", zipfile.ZIP_STORED, "big-endian"),
        ("data.pkl", b"\x80\x02]q\x00.", zipfile.ZIP_STORED, "holds a table of tensors"),
        ("data.pkl", bytes(9_000_000), zipfile.ZIP_DEFLATED, "far too long"),
        ("data.pkl", b"\x80\x02N.", zipfile.ZIP_LZMA, "packed in a way that torch does not"),
    ],
)
def test_a_record_that_is_not_what_torch_writes_is_named(
    name: str, data: bytes, compression: int, words: str, tmp_path: Path
) -> None:
    torch.save({"w": torch.zeros(100)}, tmp_path / "w.pt")
    change(tmp_path / "w.pt", name, data, compression)
    with pytest.raises(C4CError, match=f"w.pt: .*{words}") as caught:
        read_weights(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


def test_a_record_that_is_missing_or_twice_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(100)}, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("w/data/0", bytes(400))
    with pytest.raises(C4CError, match="the same name"):
        read_weights(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data/0", bytes(400))
    with pytest.raises(C4CError, match="no record data.pkl"):
        read_weights(path)


def test_tied_weights_are_read_and_a_table_that_blows_a_file_up_is_not(tmp_path: Path) -> None:
    weight = torch.zeros(1000)
    torch.save({"a": weight, "b": weight}, tmp_path / "tied.pt")
    assert read_weights(tmp_path / "tied.pt")[0].keys() == {"a", "b"}
    torch.save({f"{i}": weight for i in range(100)}, tmp_path / "w.pt")
    with pytest.raises(C4CError, match="claim more than the file holds"):
        read_weights(tmp_path / "w.pt")
