"""The authors' and OpenAI's files in, the authors' files out, no number changed."""

import json
import os
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.towers import uses_quick_gelu
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.heads import HEADS
from c4c.heads.checkpoint import load_checkpoint
from c4c.interop.authors import NAMES, theirs
from c4c.interop.convert import check_clip, export_checkpoint, import_checkpoint

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
State = dict[str, torch.Tensor]


def part(file: str) -> State:
    with np.load(GOLDEN / file) as stored:
        return {
            key.removeprefix("state."): torch.from_numpy(stored[key])
            for key in stored
            if key.startswith("state.")
        }


def released(head: str, patch: str = "2d") -> State:
    """A checkpoint as the authors' code saves it: CLIP in half precision, the head in full."""
    own = {key: value.float() for key, value in part(f"{head}.head.npz").items()}
    return {**part(f"clip_{patch}.npz"), **own}


def same(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("patch", ["2d", "3d"])
@pytest.mark.parametrize("head", list(NAMES))
def test_a_round_trip_changes_nothing(head: str, patch: str, prefix: str, tmp_path: Path) -> None:
    state = released(head, patch)
    file = tmp_path / "pytorch_model.bin.4"
    torch.save({prefix + key: value for key, value in state.items()}, file)
    found = import_checkpoint(file, tmp_path / "own")
    assert (found["head"], found["patch"]) == (head, patch)
    assert load_checkpoint(tmp_path / "own").head.name == head
    export_checkpoint(tmp_path / "own", tmp_path / "theirs.bin")
    same(torch.load(tmp_path / "theirs.bin", weights_only=True), state)


BESIDE_THE_WEIGHTS = {
    "clip.input_resolution": torch.tensor(32),
    "clip.context_length": torch.tensor(24),
    "clip.vocab_size": torch.tensor(200),
    "clip.attn_mask": torch.zeros(24, 24),
    "cross.embeddings.position_ids": torch.arange(24)[None],
}


@pytest.mark.parametrize("head", list(NAMES))
@pytest.mark.parametrize(
    "write",
    [
        lambda state, file: torch.save({**state, **BESIDE_THE_WEIGHTS}, file),
        lambda state, file: torch.save({"epoch": 3, "state_dict": state}, file),
        lambda state, file: torch.save(
            {"model_state_dict": state, "optimizer_state_dict": {"state": {}}}, file
        ),
        lambda state, file: torch.save(
            {f"module._orig_mod.{key}": value for key, value in state.items()}, file
        ),
        lambda state, file: torch.save(
            {key: torch.nn.Parameter(value) for key, value in state.items()}, file
        ),
        lambda state, file: torch.save(state, file, _use_new_zipfile_serialization=False),
    ],
    ids=["sizes and masks", "wrapped", "with optimizer", "compiled", "parameters", "old format"],
)
def test_however_it_was_saved_the_same_weights_come_in(head, write, tmp_path: Path) -> None:
    state = released(head)
    write(state, tmp_path / "pytorch_model.bin.0")
    import_checkpoint(tmp_path / "pytorch_model.bin.0", tmp_path / "own")
    export_checkpoint(tmp_path / "own", tmp_path / "out.bin")
    same(torch.load(tmp_path / "out.bin", weights_only=True), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("head", list(NAMES))
def test_any_precision_and_number_of_layers_comes_in(
    head: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    upper = [f"resblocks.{layer}." for layer in (1, 2, 3)]
    state = {
        key: value.to(dtype)
        for key, value in released(head, "3d").items()
        if not any(part in key for part in upper)
    }
    torch.save(state, tmp_path / "m.bin")
    import_checkpoint(tmp_path / "m.bin", tmp_path / "own")
    assert load_checkpoint(tmp_path / "own").head.layers == 1
    load_backbone("auto", str(tmp_path / "own"), device="cpu")
    export_checkpoint(tmp_path / "own", tmp_path / "out.bin")
    same(torch.load(tmp_path / "out.bin", weights_only=True), state)


def test_a_clip_of_known_shapes_has_open_clips_name() -> None:
    from open_clip.model import CLIP

    for name, patch in (("ViT-B-32", 32), ("ViT-B-16", 16)):
        vision = {"layers": 12, "width": 768, "patch_size": patch, "image_size": 224}
        with torch.device("meta"):
            model = CLIP(512, vision, {"width": 512, "heads": 8, "layers": 12})
        assert check_clip(model.state_dict()) == name


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 4, "optimizer_state_dict": {"state": {}, "param_groups": []}, "loss": 0.5},
        {"state": {0: {"next_m": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    ],
)
def test_the_optimizers_file_is_told_from_the_models(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "pytorch_opt.bin.4")
    with pytest.raises(C4CError, match=r"pytorch_opt.bin.4: .* optimizer .*pytorch_model.bin.N"):
        import_checkpoint(tmp_path / "pytorch_opt.bin.4", tmp_path / "own")


def test_an_import_is_a_backbone(tmp_path: Path) -> None:
    torch.save(released("seqTransf", "3d"), tmp_path / "m.bin")
    import_checkpoint(tmp_path / "m.bin", tmp_path / "own")
    backbone = load_backbone("auto", str(tmp_path / "own"), device="cpu", precision="float32")
    kernel = part("clip_3d.npz")["clip.visual.conv2.weight"]
    assert torch.equal(backbone.model.visual.conv2.weight, kernel.float())
    assert backbone.embed_dim == load_checkpoint(tmp_path / "own").head.dim


def openai_state() -> State:
    return {key.removeprefix("clip."): value for key, value in part("clip_2d.npz").items()}


def write_jit(path: Path, state: State) -> None:
    """An archive like OpenAI's: a scripted module whose state dict has CLIP's names."""

    def nested(names: State) -> torch.nn.Module:
        made = torch.nn.Module()
        groups: dict[str, State] = {}
        for name, value in names.items():
            first, _, rest = name.partition(".")
            if rest:
                groups.setdefault(first, {})[rest] = value
            else:
                made.register_buffer(first, value)
        for first, inner in groups.items():
            made.add_module(first, nested(inner))
        return made

    sizes = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(24)}
    torch.jit.script(nested({**state, **sizes})).save(str(path))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", ["jit", "plain", "safetensors"])
def test_openais_files_become_a_mean_head_and_a_backbone(kind: str, tmp_path: Path) -> None:
    state = openai_state()
    file = tmp_path / ("clip.safetensors" if kind == "safetensors" else "clip.pt")
    if kind == "jit":
        write_jit(file, state)
    elif kind == "plain":
        torch.save(state, file)
    else:
        save_file(state, file)
    found = import_checkpoint(file, tmp_path / "own")
    assert (found["head"], found["backbone"]) == ("meanP", "auto")
    checkpoint = load_checkpoint(tmp_path / "own")
    same(checkpoint.backbone_state, state)
    assert checkpoint.head.logit_scale.item() == state["logit_scale"].item()
    load_backbone("auto", str(tmp_path / "own"), device="cpu")
    export_checkpoint(tmp_path / "own", tmp_path / "out.bin")
    same(torch.load(tmp_path / "out.bin", weights_only=True), part("clip_2d.npz"))


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    file, harm = tmp_path / "pytorch_model.bin.0", tmp_path / "harm"
    state = {**released("meanP"), "extra": Malice(harm)}
    if how == "torch":
        torch.save(state, file)
    else:
        file.write_bytes(pickle.dumps(Malice(harm), protocol=2))
    result = CliRunner().invoke(
        group, ["import-checkpoint", str(file), "--out", str(tmp_path / "o")]
    )
    assert isinstance(result.exception, C4CError)
    assert "tensors only" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not harm.exists()
    assert not (tmp_path / "o").exists()


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"weight": torch.ones(2)}, "lacks position embeddings or CLIP|not a ViT"),
        (lambda s: without(s, "clip.ln_final.bias"), "'ln_final.bias' of CLIP is missing"),
        (lambda s: without(s, "clip.visual.conv1.weight"), "not a ViT CLIP"),
        (lambda s: {**s, "clip.other": torch.ones(1)}, "'other' belongs neither"),
        (lambda s: {**s, "lstm_visual.bias_ih_l0": torch.ones(1)}, "no parameter of seqTransf"),
        (lambda s: without(s, "frame_position_embeddings.weight"), "lacks position embeddings"),
        (
            lambda s: {**s, "clip.text_projection": torch.ones(128, 64)},
            r"expected floats",
        ),
        (
            lambda s: {**s, "transformerClip.resblocks.0.ln_1.bias": torch.ones(64)},
            r"expected floats \[128\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, words: str, tmp_path: Path) -> None:
    torch.save(change(released("seqTransf")), tmp_path / "m.bin")
    with pytest.raises(C4CError, match=words) as caught:
        import_checkpoint(tmp_path / "m.bin", tmp_path / "own")
    assert str(tmp_path / "m.bin") in str(caught.value)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut short"])
def test_a_file_that_holds_no_weights_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(C4CError, match="not a file of weights"):
        import_checkpoint(tmp_path / "m.bin", tmp_path / "own")


@pytest.mark.shows("import-checkpoint", "--out", "--overwrite")
@pytest.mark.shows("export-checkpoint", "--out", "--overwrite")
def test_the_commands_go_both_ways_and_overwrite_only_when_told(tmp_path: Path) -> None:
    state = released("tightTransf")
    file, own, out = tmp_path / "m.bin", tmp_path / "own", tmp_path / "out.bin"
    torch.save(state, file)
    run = CliRunner().invoke
    first = run(group, ["import-checkpoint", str(file), "--out", str(own)])
    assert first.exit_code == 0
    assert first.stdout.strip() == str(own)
    assert "tightTransf, 2d patch" in first.stderr
    again = run(group, ["import-checkpoint", str(file), "--out", str(own)])
    assert "--overwrite" in str(again.exception)
    assert (
        run(group, ["import-checkpoint", str(file), "--out", str(own), "--overwrite"]).exit_code
        == 0
    )
    assert run(group, ["export-checkpoint", str(own), "--out", str(out)]).exit_code == 0
    assert "--overwrite" in str(
        run(group, ["export-checkpoint", str(own), "--out", str(out)]).exception
    )
    same(torch.load(out, weights_only=True), state)


def test_without_out_both_commands_say_where_they_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(released("seqLSTM"), "pytorch_model.bin.4")
    done = CliRunner().invoke(group, ["import-checkpoint", "pytorch_model.bin.4"])
    assert done.stdout.strip() == "c4c-runs/imported-pytorch_model.bin.4"
    assert load_checkpoint(done.stdout.strip()).head.name == "seqLSTM"
    done = CliRunner().invoke(group, ["export-checkpoint", done.stdout.strip()])
    assert done.stdout.strip() == str(tmp_path / "c4c-runs/imported-pytorch_model.bin.4.bin")
    same(torch.load(done.stdout.strip(), weights_only=True), released("seqLSTM"))
    monkeypatch.chdir(tmp_path / "c4c-runs/imported-pytorch_model.bin.4")
    again = CliRunner().invoke(group, ["export-checkpoint", "."])
    assert "imported-pytorch_model.bin.4.bin is there already" in str(again.exception)


@pytest.mark.shows("import-checkpoint", "--json")
def test_the_advice_after_an_import_is_a_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On weights of the shipped backbone, whose tokenizer is not CLIP's."""
    monkeypatch.chdir(tmp_path)
    make_shapes(tmp_path / "shapes", Recipe(train=2, val=0, test=0))
    tiny = load_backbone("tiny")
    torch.save(tiny.model.state_dict(), "a file.bin")
    done = CliRunner().invoke(group, ["import-checkpoint", "a file.bin", "--json"])
    assert json.loads(done.stdout)["backbone"] == "tiny"
    assert "--backbone tiny --pretrained 'c4c-runs/imported-a file.bin'" in done.stderr
    advised = done.stderr.partition("To extract with it: c4c ")[2].replace("NAME", "shapes")
    more = ["--root", "shapes", "--split", "train", "--workers", "1"]
    done = CliRunner().invoke(group, [*shlex.split(advised), *more])
    assert done.exit_code == 0, done.output
    cache = Cache.open("c4c-cache/shapes")
    assert cache.fingerprint.sha256 == tiny.sha256
    assert len(cache.captions("train")) == 2


@pytest.mark.shows("import-checkpoint", "--exact-gelu")
def test_weights_of_the_exact_gelu_are_read_as_such_when_told(tmp_path: Path) -> None:
    torch.save(load_backbone("tiny").model.state_dict(), tmp_path / "m.bin")
    for name, options in (("quick", ()), ("exact", ("--exact-gelu",))):
        args = ["import-checkpoint", str(tmp_path / "m.bin"), "--out", str(tmp_path / name)]
        assert CliRunner().invoke(group, [*args, *options]).exit_code == 0
    quick, exact = (load_backbone("tiny", str(tmp_path / one)) for one in ("quick", "exact"))
    assert (uses_quick_gelu(quick.model), uses_quick_gelu(exact.model)) == (True, False)


@pytest.mark.parametrize("named", ["hf-hub:somebody/else", "local-dir:.", "ViT-B-16", "../x"])
def test_a_name_in_a_file_is_believed_only_where_it_fits(named: str, tmp_path: Path) -> None:
    state = dict(load_backbone("tiny").model.state_dict())
    save_file(state, tmp_path / "m.safetensors", {"model": named})
    assert import_checkpoint(tmp_path / "m.safetensors", tmp_path / "own")["backbone"] == "tiny"


def test_sentences_for_weights_of_an_unknown_vocabulary_are_one_line(tmp_path: Path) -> None:
    torch.save(released("meanP"), tmp_path / "m.bin")
    import_checkpoint(tmp_path / "m.bin", tmp_path / "own")
    backbone = load_backbone("auto", str(tmp_path / "own"), device="cpu")
    with pytest.raises(C4CError, match=r"a vocabulary of 200 tokens.*tokenizer of 49408"):
        backbone.tokenize(["a dog runs"])


def test_a_head_without_clip_cannot_be_exported(tmp_path: Path) -> None:
    from c4c.heads import build_head
    from c4c.heads.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "best", build_head("seqLSTM", 64), {})
    with pytest.raises(C4CError, match="a head and no CLIP"):
        export_checkpoint(tmp_path / "best", tmp_path / "out.bin")


@pytest.mark.shows("export-checkpoint", "--exact-gelu")
def test_a_backbone_of_exact_gelu_is_exported_only_when_told_and_then_says_so(
    tmp_path: Path,
) -> None:
    state = released("meanP")
    torch.save(state, tmp_path / "m.bin")
    run = CliRunner().invoke

    def command(name: str, source: str, target: str, *flags: str) -> object:
        words = [name, str(tmp_path / source), "--out", str(tmp_path / target), *flags]
        return run(group, words)

    done = command("import-checkpoint", "m.bin", "exact", "--exact-gelu")
    assert "2d patch, exact GELU" in done.stderr
    refused = command("export-checkpoint", "exact", "out.bin")
    assert isinstance(refused.exception, C4CError)
    assert "always computes QuickGELU" in str(refused.exception)
    assert not (tmp_path / "out.bin").exists()
    told = command("export-checkpoint", "exact", "out.bin", "--exact-gelu")
    assert told.exit_code == 0
    assert "the authors' code would compute QuickGELU" in told.stderr
    same(torch.load(tmp_path / "out.bin", weights_only=True), state)
    back = import_checkpoint(tmp_path / "out.bin", tmp_path / "back", exact_gelu=True)
    assert back["gelu"] == "exact"


def test_a_flag_that_contradicts_the_weights_is_refused(tmp_path: Path) -> None:
    torch.save(released("meanP"), tmp_path / "m.bin")
    import_checkpoint(tmp_path / "m.bin", tmp_path / "quick")
    with pytest.raises(C4CError, match="QuickGELU; leave --exact-gelu out"):
        export_checkpoint(tmp_path / "quick", tmp_path / "out.bin", exact_gelu=True)
    clip = {key: value.contiguous() for key, value in openai_state().items()}
    save_file(clip, tmp_path / "m.safetensors", {"quick_gelu": "true"})
    with pytest.raises(C4CError, match="says that it is of QuickGELU"):
        import_checkpoint(tmp_path / "m.safetensors", tmp_path / "own", exact_gelu=True)


def test_heads_of_the_authors_code_are_those_that_say_so() -> None:
    assert {name for name, kind in HEADS.items() if kind.in_authors_code} == set(NAMES)
    with pytest.raises(C4CError, match="The authors' code has no head 'late'. It has meanP, "):
        theirs("late", "weight")
