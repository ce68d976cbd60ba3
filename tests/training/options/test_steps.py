"""What the options of both trainings do to batches, losses and steps."""

import pytest
from small_runs import STILL, Run, Train, both, distance


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


@both
@pytest.mark.shows("train-head", "--precision")
@pytest.mark.shows("train-e2e", "--precision")
def test_bfloat16_rounds_the_steps(command: str, train: Train, usual: dict[str, Run]) -> None:
    half = train(command, "--precision", "bfloat16").rows[0]["loss"]
    whole = usual[command].rows[0]["loss"]
    assert half != whole
    assert half == pytest.approx(whole, rel=0.05)
