"""What the options of ``train-head`` and ``train-e2e`` do, through the commands themselves.

Runs are of eight clips, and what the model is given in them is written down.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from c4c.cli.app import group
from c4c.core import presets
from c4c.core.errors import C4CError
from c4c.extract.backbone.backbone import load_backbone
from c4c.extract.backbone.tiny import WEIGHTS
from c4c.heads.checkpoint import load_checkpoint
from c4c.training import cached, e2e, frames, loop
from c4c.training.journal import read_journal
from c4c.training.task import Task

COMMANDS = ["train-head", "train-e2e"]
# No step moves anything: what a run holds at its end is what it began with.
STILL = ("--lr", "1e-12", "--weight-decay", "0")


@dataclass
class Seen:
    """What a task was asked for and gave: a row a batch, and a row a chunk."""

    ids: list[list[str]] = field(default_factory=list)
    frames: dict[str, Tensor] = field(default_factory=dict)  # of each clip, as given last
    tokens: int = 0
    chunks: list[int] = field(default_factory=list)


@dataclass
class Run:
    """One run of a command."""

    out: Path
    line: dict[str, Any]
    words: str
    seen: Seen

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The log's steps."""
        return [row for row in read_journal(self.out / "log.jsonl") if "lr" in row]

    @property
    def meta(self) -> dict[str, Any]:
        return json.loads((self.out / "last/checkpoint.json").read_text())  # type: ignore[no-any-return]

    @property
    def head(self) -> dict[str, Tensor]:
        return load_checkpoint(self.out / "last").head.state_dict()

    @property
    def backbone(self) -> dict[str, Tensor]:
        found = load_checkpoint(self.out / "last").backbone_state
        assert found is not None
        return dict(found)


def spy(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Write down what the tasks of both commands load and encode."""
    seen = Seen()

    def watch(kind: Any) -> None:
        load, encode = kind.load, kind.encode

        def loading(self: Task, captions: Any, generator: torch.Generator) -> Any:
            found = load(self, captions, generator)
            names = [self.clip_of[row] for row in captions]
            seen.ids.append(names)
            for place, name in enumerate(names):
                seen.frames[name] = frames_of(found, place)
            if hasattr(found, "tokens"):
                seen.tokens = found.tokens.shape[1]
            return found

        def encoding(self: Task, inputs: Any, start: int, stop: int) -> Any:
            seen.chunks.append(stop - start)
            return encode(self, inputs, start, stop)

        monkeypatch.setattr(kind, "load", loading)
        monkeypatch.setattr(kind, "encode", encoding)

    for kind in (cached.CachedTask, e2e.E2ETask):
        watch(kind)
    return seen


def frames_of(inputs: Any, place: int) -> Tensor:
    """One clip's frames of a batch: features, or pixels."""
    count = int(inputs.lengths[place])
    if isinstance(inputs, cached.FeatureInputs):
        return inputs.clips.features[place, :count].clone()
    first = int(inputs.lengths[:place].sum())
    return inputs.pixels[first : first + count].clone()


Train = Callable[..., Run]


@pytest.fixture(scope="module")
def places(shapes_root: Path, shapes_cache: Path, tmp_path_factory: Any) -> dict[str, list[str]]:
    """Where each command finds its data."""
    decoded = tmp_path_factory.mktemp("options") / "frames"
    data = ["--dataset", "shapes", "--root", str(shapes_root), "--frame-cache", str(decoded)]
    return {
        "train-head": ["--cache", str(shapes_cache)],
        "train-e2e": [*data, "--backbone", "tiny", "--workers", "1", "--coef-lr", "1"],
    }


def run_into(out: Path, places: dict[str, list[str]], command: str, *options: str) -> Run:
    args = [command, *places[command], "--head", "seqTransf", "--layers", "1", "--epochs", "1"]
    args += ["--batch", "4", "--train-split", "val", "--eval-split", "none", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        seen = spy(patch)
        done = CliRunner().invoke(
            group, [*args, "--out", str(out), *options], catch_exceptions=False
        )
    assert done.exit_code == 0, done.output
    return Run(out, json.loads(done.stdout), done.stderr, seen)


@pytest.fixture
def train(places: dict[str, list[str]], tmp_path: Path) -> Iterator[Train]:
    """Runs a command with options over the usual ones, each time in a folder of its own."""
    count = 0

    def once(command: str, *options: str) -> Run:
        nonlocal count
        count += 1
        return run_into(tmp_path / f"run{count}", places, command, *options)

    yield once


@pytest.fixture(scope="module")
def usual(places: dict[str, list[str]], tmp_path_factory: Any) -> dict[str, Run]:
    """A run of each command as it is, to compare with."""
    here = tmp_path_factory.mktemp("usual")
    return {command: run_into(here / command, places, command) for command in COMMANDS}


@pytest.fixture(scope="module")
def still(places: dict[str, list[str]], tmp_path_factory: Any) -> dict[str, Run]:
    """The same, without moving: where both begin."""
    here = tmp_path_factory.mktemp("still")
    return {command: run_into(here / command, places, command, *STILL) for command in COMMANDS}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two parameters of one name."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


both = pytest.mark.parametrize("command", COMMANDS)


@both
@pytest.mark.shows("train-head", "--batch", "--accumulate", "--epochs", "--train-split")
@pytest.mark.shows("train-e2e", "--batch", "--accumulate", "--epochs", "--train-split")
def test_batches_make_steps_and_steps_make_epochs(command: str, train: Train) -> None:
    run = train(
        command, "--train-split", "test", "--batch", "2", "--accumulate", "2", "--epochs", "3"
    )
    assert [len(names) for names in run.seen.ids] == [2] * 12
    assert run.line["steps"] == 6
    assert {name for names in run.seen.ids for name in names} == {
        f"test-{number:05d}-{twin}" for number in range(4) for twin in "ab"
    }


@both
@pytest.mark.shows("train-head", "--micro-batch")
@pytest.mark.shows("train-e2e", "--micro-batch")
def test_a_micro_batch_is_what_is_encoded_at_once_for_the_same_loss(
    command: str, train: Train
) -> None:
    whole, parts = (train(command, "--batch", "8", "--micro-batch", size) for size in ("0", "3"))
    assert set(whole.seen.chunks) == {8}
    assert set(parts.seen.chunks) == {3, 2}
    assert parts.rows[0]["loss"] == pytest.approx(whole.rows[0]["loss"], rel=1e-5)
    assert parts.rows[0]["grad_norm"] == pytest.approx(whole.rows[0]["grad_norm"], rel=1e-3)


@both
@pytest.mark.shows("train-head", "--weight-decay")
@pytest.mark.shows("train-e2e", "--weight-decay")
def test_weight_decay_draws_matrices_towards_nothing(command: str, train: Train) -> None:
    steps = ("--lr", "1e-3", "--warmup", "0")
    plain, decayed = (train(command, *steps, "--weight-decay", much) for much in ("0", "600"))
    for name, value in plain.head.items():
        ratio = float(decayed.head[name].norm() / value.norm())
        # Two steps, at the whole rate and at half of it: 1 - 0.6, then 1 - 0.3.
        assert ratio == pytest.approx(0.28, abs=0.05) if value.ndim >= 2 else ratio > 0.9, name


@both
@pytest.mark.shows("train-head", "--lr", "--warmup")
@pytest.mark.shows("train-e2e", "--lr", "--warmup")
def test_the_rate_says_how_far_a_step_goes_and_the_warmup_how_it_begins(
    command: str, train: Train, still: dict[str, Run]
) -> None:
    plain = ("--batch", "8", "--weight-decay", "0")
    runs = [
        train(command, *plain, "--lr", rate, "--warmup", share)
        for rate, share in (("1e-3", "0"), ("1e-5", "0"))
    ]
    moved = [distance(run.head, still[command].head) for run in runs]
    assert moved == [pytest.approx(1e-3, rel=0.1), pytest.approx(1e-5, rel=0.1)]
    long = train(command, "--batch", "2", "--lr", "1e-3", "--warmup", "0.9")
    assert [row["lr"] for row in long.rows] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])


@both
@pytest.mark.shows("train-head", "--clip-norm")
@pytest.mark.shows("train-e2e", "--clip-norm")
def test_a_gradient_is_clipped_at_its_norm(
    command: str, train: Train, usual: dict[str, Run], still: dict[str, Run]
) -> None:
    """Adam does not mind the size of a gradient until it is below its epsilon."""
    clipped = train(command, "--clip-norm", "1e-9", "--weight-decay", "0")
    assert clipped.rows[0]["grad_norm"] == pytest.approx(usual[command].rows[0]["grad_norm"])
    moved = [distance(run.head, still[command].head) for run in (clipped, usual[command])]
    assert moved[0] < moved[1] / 100


@both
@pytest.mark.shows("train-head", "--seed")
@pytest.mark.shows("train-e2e", "--seed")
def test_a_seed_draws_order_and_start(command: str, train: Train, usual: dict[str, Run]) -> None:
    same, other = (train(command, "--seed", seed, "--head", "seqLSTM") for seed in ("0", "1"))
    assert same.seen.ids == usual[command].seen.ids
    assert other.seen.ids != same.seen.ids
    assert distance(same.head, other.head) > 0.01


@both
@pytest.mark.shows("train-head", "--max-frames", "--sampling", "--order")
@pytest.mark.shows("train-e2e", "--max-frames", "--sampling", "--order")
@pytest.mark.parametrize(
    ("sampling", "order", "wanted"),
    [
        ("head", "ordinary", [0, 1, 2]),
        ("tail", "ordinary", [5, 6, 7]),
        ("uniform", "reverse", [7, 3, 0]),
    ],
)
def test_frames_are_chosen_and_ordered(
    command: str, sampling: str, order: str, wanted: list[int], train: Train, usual: dict[str, Run]
) -> None:
    run = train(command, "--max-frames", "3", "--sampling", sampling, "--order", order)
    for name, whole in usual[command].seen.frames.items():
        assert len(whole) == 8
        assert torch.equal(run.seen.frames[name], whole[wanted]), name


@both
@pytest.mark.shows("train-head", "--eval-split", "--eval-order")
@pytest.mark.shows("train-e2e", "--eval-split", "--eval-order")
def test_the_evaluated_split_and_the_order_in_which_it_is_seen(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []
    kind = cached.CachedTask if command == "train-head" else e2e.E2ETask
    blocks = kind._blocks

    def watched(self: Any, *args: Any) -> Iterator[Any]:
        for batch in blocks(self, *args):
            shown.append(batch.features.clone())
            yield batch

    monkeypatch.setattr(kind, "_blocks", watched)
    plain, turned = (
        train(command, *STILL, "--eval-split", "test", "--eval-order", order)
        for order in ("ordinary", "reverse")
    )
    assert plain.meta["chosen_on"] == "test"
    assert "t2v_r1" in plain.line and "twin_accuracy" in plain.line
    assert shown[0].shape[:2] == (8, 8)
    torch.testing.assert_close(shown[1], shown[0].flip(1), rtol=1e-4, atol=1e-4)
    assert turned.meta["config"]["eval_order"] == "reverse"


@both
@pytest.mark.shows("train-head", "--head", "--layers", "--out")
@pytest.mark.shows("train-e2e", "--head", "--layers", "--out")
def test_a_head_of_so_many_layers_is_kept_where_asked(
    command: str, train: Train, usual: dict[str, Run]
) -> None:
    run = train(command, "--head", "tightTransf", "--layers", "2")
    held = load_checkpoint(run.out / "best").head
    assert (held.name, held.layers) == ("tightTransf", 2)
    assert run.line["checkpoint"] == str(run.out / "best")
    own = load_checkpoint(usual[command].out / "best").head
    assert (own.name, own.layers) == ("seqTransf", 1)


@both
@pytest.mark.shows("train-head", "--recipe")
@pytest.mark.shows("train-e2e", "--recipe")
def test_the_authors_steps_begin_at_nothing(
    command: str, train: Train, usual: dict[str, Run], still: dict[str, Run]
) -> None:
    authors = train(command, "--recipe", "authors", "--batch", "8")
    assert authors.rows[0]["lr"] == 0
    assert usual[command].rows[0]["lr"] > 0
    assert distance(authors.head, still[command].head) < 1e-9


@both
@pytest.mark.shows("train-head", "--objective", "--pairs")
@pytest.mark.shows("train-e2e", "--objective", "--pairs")
def test_mil_nce_has_more_wrong_answers_and_pairs_stand_in_a_row(
    command: str, train: Train
) -> None:
    whole = (*STILL, "--batch", "8")
    plain, noisy = (train(command, *whole, "--objective", kind) for kind in
                    ("contrastive", "mil-nce"))  # fmt: skip
    # Against the texts of the others and the clips of the others together, not in turn.
    assert noisy.rows[0]["loss"] > plain.rows[0]["loss"] + 0.1
    pairs = train(command, *whole, "--objective", "mil-nce", "--pairs", "2")
    for names in pairs.seen.ids:
        assert names[0::2] == names[1::2]  # a video of one stretch repeats it
        assert len(set(names)) == 4


@pytest.fixture(scope="module")
def twice(shapes_root: Path, tmp_path_factory: Any) -> tuple[Path, list[str]]:
    """Six videos in a folder of one's own with two captions each; its cache, and its options."""
    here = tmp_path_factory.mktemp("twice")
    videos = sorted((shapes_root / "videos").rglob("val-*.mp4"))[:6]
    lines = ["video,caption,split"]
    lines += [f"{path.name},{text} {path.stem},own" for path in videos for text in ("a", "the")]
    (here / "list.csv").write_text("\n".join(lines) + "\n")
    args = ["--dataset", "manifest", "--root", str(here), "--videos", str(videos[0].parent)]
    args += ["--captions", str(here / "list.csv")]
    command = ["extract", *args, "--cache", str(here / "cache"), "--split", "own"]
    command += ["--backbone", "tiny", "--workers", "1"]
    assert CliRunner().invoke(group, command).exit_code == 0
    return here / "cache", args


@both
@pytest.mark.shows("train-head", "--clip-captions", "--cache")
@pytest.mark.shows("train-e2e", "--clip-captions", "--dataset", "--root", "--videos", "--captions")
@pytest.mark.shows("train-e2e", "--frame-cache")
def test_captions_of_somebodys_own_are_trained_on_all_or_one_a_clip(
    command: str, train: Train, twice: tuple[Path, list[str]], tmp_path: Path
) -> None:
    cache, data = twice
    own = ["--cache", str(cache)] if command == "train-head" else data
    if command == "train-e2e":
        own = [*own, "--frame-cache", str(tmp_path / "decoded")]
    own = [*own, "--train-split", "own", "--batch", "3"]
    every, one = (train(command, *own, "--clip-captions", which) for which in ("all", "one"))
    assert sum(map(len, every.seen.ids)) == 12
    assert sorted(name for names in one.seen.ids for name in names) == sorted(one.seen.frames)
    assert len(one.seen.frames) == 6
    if command == "train-e2e":
        assert len(list((tmp_path / "decoded").glob("own-*"))) == 1


@both
@pytest.mark.shows("train-head", "--precision")
@pytest.mark.shows("train-e2e", "--precision")
def test_bfloat16_rounds_the_steps(command: str, train: Train, usual: dict[str, Run]) -> None:
    half = train(command, "--precision", "bfloat16").rows[0]["loss"]
    whole = usual[command].rows[0]["loss"]
    assert half != whole
    assert half == pytest.approx(whole, rel=0.05)


@both
@pytest.mark.shows("train-head", "--init-head")
@pytest.mark.shows("train-e2e", "--init-head")
def test_a_run_begins_with_the_head_it_is_given(
    command: str, train: Train, usual: dict[str, Run], still: dict[str, Run]
) -> None:
    run = train(command, *STILL, "--init-head", str(usual[command].out / "last"))
    assert distance(run.head, usual[command].head) < 1e-9
    assert distance(run.head, still[command].head) > 1e-5


@both
@pytest.mark.shows("train-head", "--resume", "--overwrite", "--device")
@pytest.mark.shows("train-e2e", "--resume", "--overwrite")
def test_a_folder_that_holds_a_run_is_gone_on_with_or_begun_anew(
    command: str, places: dict[str, list[str]], tmp_path: Path
) -> None:
    run_into(tmp_path, places, command)
    with pytest.raises(Exception, match="--resume auto to go on"):
        run_into(tmp_path, places, command)
    # The same device under another name is no other setting.
    again = run_into(tmp_path, places, command, "--resume", "auto", "--device", "cpu:0")
    assert "going on from" in again.words
    assert again.seen.ids == []
    with pytest.raises(Exception, match="trained with lr"):
        run_into(tmp_path, places, command, "--resume", "auto", "--lr", "0.5")
    anew = run_into(tmp_path, places, command, "--overwrite", "--lr", "2e-4")
    assert anew.line["steps"] == 2
    assert len(anew.rows) == 2


@both
@pytest.mark.shows("train-head", "--checkpoint-minutes", "--tensorboard")
@pytest.mark.shows("train-e2e", "--checkpoint-minutes", "--tensorboard")
def test_checkpoints_are_saved_as_often_as_asked_and_event_files_written(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = loop.Run._save

    def saving(self: loop.Run, name: str) -> None:
        saved.append(name)
        save(self, name)

    monkeypatch.setattr(loop.Run, "_save", saving)
    train(command, "--checkpoint-minutes", "0")
    assert saved == ["last", "best"]
    pytest.importorskip("tensorboard")
    saved.clear()
    run = train(command, "--checkpoint-minutes", "1e-9", "--tensorboard")
    assert saved == ["last", "last", "last", "best"]  # after each of two steps, and the epoch
    assert list((run.out / "tensorboard").iterdir())


@both
@pytest.mark.shows("train-head", "--device")
@pytest.mark.shows("train-e2e", "--device")
def test_a_device_that_is_named_counts_more_than_a_gpu_that_seems_there(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        """Says on which device a run would be."""

    def begin(task: Task, *_: Any) -> None:
        raise Begun(str(task.device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (cached, e2e):
        monkeypatch.setattr(module, "Run", begin)
    with pytest.raises(Begun, match="cpu"):
        train(command)  # with --device cpu, as all of these
    with pytest.raises(C4CError, match="--device cuda:77 cannot be used"):
        train(command, "--device", "cuda:77")


@both
@pytest.mark.shows("train-head", "--preset")
@pytest.mark.shows("train-e2e", "--preset")
def test_a_preset_fills_what_was_not_given(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {command: {"max_frames": 2, "batch": 8}}
    monkeypatch.setattr(presets, "load_presets", lambda: {"mine": {"any": own, "shapes": {}}})
    run = train(command, "--preset", "mine")
    assert {len(rows) for rows in run.seen.frames.values()} == {2}
    assert [len(names) for names in run.seen.ids] == [4, 4]  # --batch 4 was given


@pytest.mark.shows("train-head", "--tune", "--coef-lr")
def test_projections_are_tuned_when_asked_and_at_their_own_rate(
    train: Train, shapes_root: Path, tmp_path: Path
) -> None:
    command = ["extract", "--dataset", "shapes", "--root", str(shapes_root), "--split", "val"]
    command += ["--cache", str(tmp_path / "hidden"), "--features", "hidden", "--backbone", "tiny"]
    assert CliRunner().invoke(group, [*command, "--workers", "1"]).exit_code == 0
    own = ("--cache", str(tmp_path / "hidden"), "--batch", "8", "--lr", "1e-3", "--warmup", "0",
           "--weight-decay", "0")  # fmt: skip
    left = train("train-head", *own, "--tune", "head").head
    moved = [
        distance(projections(train("train-head", *own, "--tune", "projections", *rate).head),
                 projections(left))
        for rate in (("--coef-lr", "0"), ("--coef-lr", "1"))
    ]  # fmt: skip
    assert moved == [0, pytest.approx(1e-3, rel=0.1)]


def projections(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: value for name, value in state.items() if name.startswith("projections.")}
    assert found
    return found


def moved_layers(run: Run) -> set[str]:
    """Names of the backbone's parameters that are no longer the shipped ones."""
    shipped = load_backbone("tiny").model.state_dict()
    return {name for name, value in run.backbone.items() if not torch.equal(value, shipped[name])}


@pytest.mark.shows("train-e2e", "--coef-lr", "--freeze-layers")
def test_the_backbone_learns_at_its_own_rate_and_not_in_frozen_layers(train: Train) -> None:
    assert moved_layers(train("train-e2e", "--coef-lr", "0")) == set()
    moved = moved_layers(train("train-e2e", "--freeze-layers", "3"))
    assert any("resblocks.3." in name for name in moved)
    assert not any(f"resblocks.{layer}." in name for name in moved for layer in (0, 1, 2))


@pytest.mark.shows("train-e2e", "--backbone", "--pretrained", "--linear-patch")
def test_a_backbone_is_taken_from_where_it_is_said_to_be(train: Train) -> None:
    shipped = load_backbone("tiny").model.state_dict()
    with pytest.raises(C4CError, match="--backbone auto has CLIP's tokenizer"):
        train("train-e2e", "--backbone", "auto", "--pretrained", str(WEIGHTS))
    own = train("train-e2e", *STILL, "--pretrained", str(WEIGHTS), "--linear-patch", "3d")
    kernel = own.backbone["visual.conv2.weight"]
    torch.testing.assert_close(kernel[:, :, 1], shipped["visual.conv1.weight"])
    chance = train("train-e2e", *STILL, "--pretrained", "none")
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert not torch.allclose(chance.backbone[name], shipped[name])


@pytest.mark.shows("train-e2e", "--grad-checkpointing")
def test_layers_are_computed_again_instead_of_kept(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip.transformer import ResidualAttentionBlock

    count = 0
    forward = ResidualAttentionBlock.forward

    def counting(self: Any, *args: Any, **named: Any) -> Tensor:
        nonlocal count
        count += 1
        return forward(self, *args, **named)

    monkeypatch.setattr(ResidualAttentionBlock, "forward", counting)
    once = train("train-e2e", "--batch", "8")
    plain, count = count, 0
    again = train("train-e2e", "--batch", "8", "--grad-checkpointing")
    assert (plain, count) == (8, 16)  # two towers of four layers, one step
    assert again.rows[0]["loss"] == pytest.approx(once.rows[0]["loss"], rel=1e-6)


@pytest.mark.shows("train-e2e", "--max-words", "--fps", "--frames", "--workers", "--decoder")
def test_frames_and_words_as_asked(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    decode = frames.decode_many
    monkeypatch.setattr(
        frames,
        "decode_many",
        lambda clips, request, workers: (
            asked.append((request.decoder, workers)) or decode(clips, request, workers)
        ),
    )
    pytest.importorskip("decord")
    run = train(
        "train-e2e", "--max-words", "5", "--fps", "0.5", "--frames", "decode", "--decoder",
        "decord", "--workers", "2", "--frame-cache", str(tmp_path / "none"),
    )  # fmt: skip
    assert run.seen.tokens == 5
    assert {len(rows) for rows in run.seen.frames.values()} == {4}
    assert asked == [("decord", 2)]
    assert not (tmp_path / "none").exists()
    assert run.meta["fingerprint"]["decoder"].startswith("decord")


def test_the_usual_run_has_eight_clips_once(usual: dict[str, Run]) -> None:
    """What the tests above compare with."""
    for run in usual.values():
        assert sorted(np.concatenate(run.seen.ids)) == sorted(run.seen.frames)
        assert len(run.seen.frames) == 8
        assert run.line["steps"] == 2
