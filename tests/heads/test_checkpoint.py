"""Checkpoint folders: what is written is read back; what is damaged is named."""

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from c4c.core.errors import C4CError
from c4c.core.schema import sealed
from c4c.extract.backbone.weights import read_weights
from c4c.heads import HEADS, build_head
from c4c.heads import checkpoint as module
from c4c.heads.checkpoint import load_checkpoint, save_checkpoint

every_head = pytest.mark.parametrize("name", list(HEADS))
META = {"config": {"lr": 1e-4}, "metrics": {"t2v_r1": 31.25}, "sampling": {"max_frames": 12}}


def saved(folder: Path, name: str = "seqTransf") -> Path:
    torch.manual_seed(0)
    return save_checkpoint(folder, build_head(name, 64, layers=2), META)


@every_head
def test_a_checkpoint_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    head = build_head(name, 64, layers=2, max_frames=90)
    extra = {"step": torch.tensor([7])}
    clip = {"visual.proj": torch.randn(3, 2).half()}
    save_checkpoint(tmp_path / "run" / "best", head, META, clip, {"model": "ViT-B-32"}, state=extra)
    found = load_checkpoint(tmp_path / "run" / "best")
    assert type(found.head) is type(head)
    assert found.head.config() == head.config()
    assert found.head.max_frames == head.max_frames
    assert not found.head.training
    assert found.meta == META
    for key, value in head.state_dict().items():
        assert torch.equal(found.head.state_dict()[key], value)
    assert found.has_backbone
    assert torch.equal(found.backbone_state["visual.proj"], clip["visual.proj"])
    assert found.backbone_state["visual.proj"].dtype == torch.float16
    assert torch.equal(found.state["step"], extra["step"])
    trained = {key for key, p in head.named_parameters() if p.requires_grad}
    assert {key for key, p in found.head.named_parameters() if p.requires_grad} == trained
    assert os.listdir(tmp_path / "run") == ["best"]


def test_a_head_alone_has_no_backbone_and_no_state(tmp_path: Path) -> None:
    found = load_checkpoint(saved(tmp_path / "best"))
    assert not found.has_backbone
    assert found.backbone_state is None
    assert found.state is None


def test_saving_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    head = build_head("meanP", 64)
    save_checkpoint(tmp_path / "last", head, {"epoch": 1}, state={"a": torch.ones(1)})
    save_checkpoint(tmp_path / "last", head, {"epoch": 2})
    found = load_checkpoint(tmp_path / "last")
    assert found.meta == {"epoch": 2}
    assert found.state is None
    assert os.listdir(tmp_path) == ["last"]


@pytest.mark.parametrize("failing", ["save_file", "first rename", "second rename"])
def test_a_save_that_stops_halfway_leaves_the_former_checkpoint(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = build_head("meanP", 64)
    save_checkpoint(tmp_path / "last", head, {"epoch": 1})
    calls = []
    rename = os.rename

    def stop(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    def rename_some(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == (1 if failing == "first rename" else 2):
            stop()
        rename(source, target)

    if failing == "save_file":
        monkeypatch.setattr(module, "_write_parts", stop)
    else:
        monkeypatch.setattr(module.os, "rename", rename_some)
    with pytest.raises(C4CError, match="No space left"):
        save_checkpoint(tmp_path / "last", head, {"epoch": 2})
    assert load_checkpoint(tmp_path / "last").meta == {"epoch": 1}
    monkeypatch.undo()
    save_checkpoint(tmp_path / "last", head, {"epoch": 3})
    assert load_checkpoint(tmp_path / "last").meta == {"epoch": 3}
    assert os.listdir(tmp_path) == ["last"]


def test_a_figure_that_is_no_number_becomes_null(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", build_head("meanP", 8), {"metrics": {"r1": float("nan")}})
    assert load_checkpoint(tmp_path / "c").meta == {"metrics": {"r1": None}}


def test_a_folder_that_is_no_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(C4CError, match="no checkpoint"):
        save_checkpoint(tmp_path, build_head("meanP", 8), {})
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def edit(folder: Path, **changes: object) -> None:
    info = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(sealed({**info, **changes})))


def shape(**changes: object) -> dict[str, object]:
    return {"shape": {"dim": 64, "positions": 77, "layers": 2, **changes}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema 2.*upgrade c4c"),
        ({"schema": "one"}, "no schema number"),
        ({"head": "maxP"}, "Unknown head 'maxP'"),
        ({"head": 3}, "head is 3, expected a text"),
        ({"head": "seqLSTM"}, "seqLSTM: parameter"),
        ({"shape": None}, "shape is null, expected an object"),
        (shape(dim=128), "seqTransf: .*expected floats"),
        (shape(layers=3), "resblocks.2.* is missing"),
        (shape(layers=1), "resblocks.1.* is not one of its own"),
        (shape(layers=10**9), "layers is 1000000000"),
        (shape(dim=0), "dim is 0"),
        (shape(dim="64"), "dim is '64'"),
        (shape(dim=True), "dim is true"),
        (shape(vision_width=8), "expected both or none"),
        (shape(experts=8), "newer c4c.*experts.*upgrade c4c"),
        ({"config": None}, "config is null, expected an object"),
        ({"metrics": None}, "metrics is null, expected an object"),
        ({"config": {"max_frames": "12"}}, "config.max_frames is '12', expected a whole number"),
        ({"config": {"sampling": "odd"}}, "config.sampling is 'odd', expected 'uniform' or"),
        ({"config": {"lr": 10**400}}, "config.lr is a number of 1329 bits"),
        ({"fingerprint": {"sha256": 5}}, "fingerprint.sha256 is 5, expected a text or null"),
        ({"files": ["head.safetensors"]}, "files is a list, expected an object"),
    ],
)
def test_what_the_json_gets_wrong_is_named(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    folder = saved(tmp_path / "best")
    edit(folder, **changes)
    with pytest.raises(C4CError, match=words) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "{}"])
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = saved(tmp_path / "best")
    (folder / "checkpoint.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(C4CError, match=r"checkpoint.json"):
        load_checkpoint(folder)


@settings(max_examples=settings.default.max_examples // 3)
@given(cut=st.integers(0, 20_000), noise=st.binary(max_size=16))
def test_damaged_tensors_are_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    folder = saved(tmp_path_factory.mktemp("run") / "best")
    path = folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:cut] + noise)
    with pytest.raises(C4CError, match="best"):
        load_checkpoint(folder)


@pytest.mark.parametrize("part", ["head", "backbone", "state"])
def test_one_changed_byte_of_a_tensor_is_noticed(tmp_path: Path, part: str) -> None:
    """A weight that is another number is a head of the right shape that scores otherwise."""
    extra = {"moment": torch.zeros(64)}
    save_checkpoint(tmp_path / "c", build_head("meanP", 64), {}, extra, {}, state=extra)
    path = tmp_path / "c" / f"{part}.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(C4CError, match=f"{part}.safetensors differs from its checksum"):
        found = load_checkpoint(tmp_path / "c")
        assert (found.state if part == "state" else found.backbone_state) is None


def test_one_changed_byte_of_a_backbone_is_noticed_by_whoever_loads_it(tmp_path: Path) -> None:
    """``--pretrained FOLDER`` reads no head."""
    clip = {"visual.proj": torch.zeros(64, 3)}
    save_checkpoint(tmp_path / "c", build_head("meanP", 64), {}, clip, {})
    assert torch.equal(read_weights(tmp_path / "c")[0]["visual.proj"], clip["visual.proj"])
    path = tmp_path / "c" / "backbone.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(C4CError, match=r"backbone\.safetensors differs from its checksum"):
        read_weights(tmp_path / "c")


def test_a_changed_setting_is_noticed(tmp_path: Path) -> None:
    """Heads see as many frames as ``config.max_frames`` says."""
    save_checkpoint(tmp_path / "c", build_head("meanP", 64), {"config": {"max_frames": 12}})
    path = tmp_path / "c" / "checkpoint.json"
    path.write_text(path.read_text().replace('"max_frames": 12', '"max_frames": 2'))
    with pytest.raises(C4CError, match=r"checkpoint\.json differs from its checksum"):
        load_checkpoint(tmp_path / "c")


def test_checkpoints_from_before_there_were_checksums_are_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "best")
    info = json.loads((folder / "checkpoint.json").read_text())
    before = {key: value for key, value in info.items() if key not in ("files", "sha256")}
    (folder / "checkpoint.json").write_text(json.dumps(before))
    assert load_checkpoint(folder).meta == META


def test_names_that_are_not_utf8_go_into_a_checkpoint(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    save_checkpoint(tmp_path / "c", build_head("meanP", 8), {"config": {"init_head": name}})
    assert load_checkpoint(tmp_path / "c").meta == {"config": {"init_head": name}}


def test_parameters_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "best")
    state = load_file(folder / "head.safetensors")
    state["logit_scale"] = torch.tensor(3, dtype=torch.int64)
    save_file(state, folder / "head.safetensors")
    edit(folder, files={})
    with pytest.raises(C4CError, match="logit_scale.*int64"):
        load_checkpoint(folder)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match="not a checkpoint folder"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(C4CError, match=r"no checkpoint\.json"):
        load_checkpoint(tmp_path)
    folder = saved(tmp_path / "best")
    (folder / "head.safetensors").unlink()
    with pytest.raises(C4CError, match="does not exist|is the checkpoint whole"):
        load_checkpoint(folder)
