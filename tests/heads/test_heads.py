"""What holds for every head in the registry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.core.records import FeatureBatch
from c4c.heads import HEADS, MEAN, build_head
from c4c.heads.base import UNLIMITED, Head, copy_positions, position_table
from c4c.heads.transformer import heads_for

DIM = 64
# Two ways through float32 matrix products of a few hundred terms differ by rounding only.
SAME = {"rtol": 2e-5, "atol": 2e-5}
every_head = pytest.mark.parametrize("name", list(HEADS))


def make(name: str, dim: int = DIM, **options: int) -> Head:
    torch.manual_seed(0)
    return build_head(name, dim, layers=2, **options).eval()


def batch_of(lengths: list[int], width: int, dim: int = DIM, seed: int = 1) -> FeatureBatch:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), width, dim, generator=generator)
    return FeatureBatch(features, torch.tensor(lengths, dtype=torch.int64))


def texts(count: int, dim: int = DIM) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(2))


def with_padding(batch: FeatureBatch, value: float, more: int = 0) -> FeatureBatch:
    wide = torch.nn.functional.pad(batch.features, (0, 0, 0, more))
    filled = FeatureBatch(wide, batch.lengths)
    return FeatureBatch(wide.masked_fill(~filled.mask()[:, :, None], value), batch.lengths)


@every_head
@settings(max_examples=settings.default.max_examples // 5)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    value=st.sampled_from([float("nan"), float("inf"), 1e30, 0.0]),
    more=st.integers(0, 3),
)
def test_padding_changes_nothing(name: str, lengths: list[int], value: float, more: int) -> None:
    head, text = make(name), texts(3)
    batch = batch_of(lengths, 6)
    plain = head(with_padding(batch, 0.0), text)
    assert plain.shape == (3, len(lengths))
    assert plain.isfinite().all()
    torch.testing.assert_close(head(with_padding(batch, value, more), text), plain, **SAME)


@every_head
def test_gradients_neither_come_from_padding_nor_go_there(name: str) -> None:
    head, text = make(name), texts(2).requires_grad_()
    batch = with_padding(batch_of([3, 1, 0], 4), float("nan"))
    batch.features.requires_grad_()
    head(batch, text).logsumexp(1).sum().backward()
    found = {key: p.grad for key, p in head.named_parameters() if p.grad is not None}
    assert all(grad.isfinite().all() for grad in found.values())
    assert text.grad is not None and text.grad.isfinite().all()
    inside = batch.mask()
    assert batch.features.grad is not None
    assert (batch.features.grad[~inside] == 0).all()
    assert batch.features.grad[inside].isfinite().all()


@every_head
def test_a_clip_scores_the_same_alone_and_in_company(name: str) -> None:
    head, text = make(name), texts(4)
    batch = batch_of([5, 1, 3], 5)
    together = head(batch, text)
    for place, length in enumerate(batch.lengths.tolist()):
        features = batch.features[place : place + 1, :length]
        alone = head(FeatureBatch(features, torch.tensor([length])), text)
        torch.testing.assert_close(alone[:, 0], together[:, place], **SAME)


@every_head
def test_one_frame_no_frame_no_clip_and_no_text_work(name: str) -> None:
    head = make(name)
    assert head(batch_of([1], 1), texts(2)).isfinite().all()
    assert head(batch_of([0, 0], 0), texts(2)).isfinite().all()
    assert head(batch_of([], 3), texts(2)).shape == (2, 0)
    assert head(batch_of([2], 3), texts(0)).shape == (0, 1)


@every_head
def test_up_to_the_position_table_and_not_beyond(name: str) -> None:
    head = make(name, max_frames=80)
    limit = min(head.max_frames, 90)
    assert limit >= 80
    assert head(batch_of([limit], limit), texts(1)).isfinite().all()
    # Padding beyond the table is not a frame beyond the table.
    assert head(batch_of([limit], limit + 5), texts(1)).isfinite().all()
    if head.max_frames < UNLIMITED:
        with pytest.raises(C4CError, match=f"{limit + 1} frames.*--max-frames {limit}"):
            head(batch_of([limit + 1], limit + 1), texts(1))


@every_head
@pytest.mark.parametrize("dim", [8, 96, 200, 640])
def test_any_width_works(name: str, dim: int) -> None:
    head = make(name, dim)
    assert head(batch_of([2, 4], 4, dim), texts(3, dim)).shape == (3, 2)
    with pytest.raises(C4CError, match=f"{dim + 1} channels and the head takes {dim}"):
        head(batch_of([2], 4, dim + 1), texts(3, dim))


def test_attention_heads_are_counted_as_in_clip() -> None:
    assert [heads_for(dim) for dim in (8, 64, 128, 512, 768, 200)] == [1, 1, 2, 8, 12, 2]


@every_head
def test_cached_half_precision_is_taken(name: str) -> None:
    head, batch = make(name), batch_of([3, 2], 3)
    half = FeatureBatch(batch.features.half(), batch.lengths)
    wide = FeatureBatch(batch.features.half().float(), batch.lengths)
    torch.testing.assert_close(head(half, texts(2)), head(wide, texts(2)))


@every_head
def test_loose_heads_have_unit_vectors_and_tight_ones_say_that_they_have_none(name: str) -> None:
    head, batch = make(name), batch_of([3, 2, 0], 3)
    if not head.loose:
        with pytest.raises(C4CError, match="no vector a clip"):
            head.encode_clips(batch)
        return
    clips, sentences = head.encode_clips(batch), head.encode_text(texts(4))
    torch.testing.assert_close(clips.norm(dim=1), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(sentences.norm(dim=1), torch.ones(4))
    expected = head.logit_scale.exp() * sentences @ clips.T
    torch.testing.assert_close(head(batch, texts(4)), expected, **SAME)


@every_head
def test_heads_see_the_order_of_frames_if_they_say_so(name: str) -> None:
    head, batch = make(name), batch_of([5], 5)
    flipped = FeatureBatch(batch.features.flip(1), batch.lengths)
    same = torch.allclose(head(batch, texts(3)), head(flipped, texts(3)), rtol=1e-5, atol=1e-5)
    assert same != head.sees_order


@every_head
def test_heads_have_something_to_train_if_they_say_so(name: str) -> None:
    head = make(name)
    scores = head(batch_of([5, 3], 5), texts(3))
    scores.logsumexp(1).sum().backward()
    moved = [key for key, one in head.named_parameters() if one.grad is not None]
    assert bool(set(moved) - {"logit_scale"}) == head.trainable


def test_the_mean_needs_no_training() -> None:
    assert (HEADS[MEAN].trainable, HEADS[MEAN].loose) == (False, True)


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_blocks_of_pairs_change_neither_logits_nor_gradients(chunk: int) -> None:
    head, batch = make("tightTransf"), batch_of([4, 2, 0], 4)
    results = []
    for size in (None, chunk):
        text = texts(3).requires_grad_()
        head.zero_grad()
        logits = head(batch, text, chunk=size)
        logits.square().sum().backward()
        results.append(
            [logits, text.grad, *(p.grad for _, p in head.named_parameters() if p.grad is not None)]
        )
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def clip_text_transformer(width: int, layers: int, context: int = 20) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    blocks = build_head("seqTransf", width, layers=layers).state_dict()
    found = {
        key.removeprefix("transformer."): torch.randn_like(value)
        for key, value in blocks.items()
        if key.startswith("transformer.")
    }
    return {
        **found,
        "positional_embedding": torch.randn(context, width),
        "logit_scale": torch.tensor(3.5),
    }


@pytest.mark.parametrize("name", ["seqTransf", "tightTransf"])
def test_heads_start_from_clips_text_transformer(name: str) -> None:
    init = clip_text_transformer(DIM, layers=6)
    head = build_head(name, DIM, init, max_frames=30, layers=4)
    own = head.state_dict()
    for key, value in init.items():
        if key.startswith("resblocks.") and int(key.split(".")[1]) < 4:
            assert torch.equal(own[f"transformer.{key}"], value)
    assert torch.equal(own["position_embeddings"][:20], init["positional_embedding"])
    assert head.max_frames == 30
    assert head.logit_scale.item() == 3.5
    assert "4 layers of CLIP" in head.origin
    assert "at random" in head.origin


@pytest.mark.parametrize(("given", "wanted"), [(5, 3), (3, 5)])
def test_the_first_of_clips_positions_fill_the_first_rows(given: int, wanted: int) -> None:
    clips = torch.arange(given * 2.0).view(given, 2)
    table = position_table(wanted, 2)
    before = table.detach().clone()
    said = copy_positions(table, {"positional_embedding": clips})
    assert torch.equal(table[:3], clips[:3])
    assert torch.equal(table[3:], before[3:])
    assert said.startswith("3 positions of CLIP")
    assert ("2 at random" in said) == (wanted == 5)


@every_head
def test_a_text_tower_of_another_width_is_said(name: str) -> None:
    head = build_head(name, DIM, clip_text_transformer(128, layers=2), layers=2)
    assert head(batch_of([2], 2), texts(1)).isfinite().all()
    assert head.logit_scale.item() == 3.5
    if hasattr(head, "transformer"):
        assert "CLIP's text is 128 wide, not 64" in head.origin
        assert "2 of 2 at random" in head.origin


@every_head
def test_the_same_seed_gives_the_same_head(name: str) -> None:
    first, second = make(name).state_dict(), make(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_unknown_head_is_answered_with_the_known_ones() -> None:
    with pytest.raises(C4CError, match=f"Known: {', '.join(HEADS)}"):
        build_head("noHead", DIM)
    with pytest.raises(C4CError, match="expected 1 or more"):
        build_head("meanP", 0)


@every_head
def test_training_in_bfloat16_keeps_gradients_finite_and_parameters_float32(name: str) -> None:
    head, batch = make(name).train(), batch_of([4, 1, 0], 4)
    text = texts(3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(batch, text)
    logits.float().square().mean().backward()
    assert text.grad is not None and text.grad.isfinite().all()
    for parameter in head.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.isfinite().all()
    plain = head.eval()(batch, text)
    with torch.autocast("cpu", torch.bfloat16):
        close = head(batch, text)
    # bfloat16 keeps eight bits of each number.
    torch.testing.assert_close(
        close.float(), plain, rtol=0.05, atol=0.05 * plain.abs().max().item()
    )


def test_the_mean_of_frames_before_they_are_normalised_counts_long_ones_more() -> None:
    """Frames (3, 0) and (0, 1), and padding: their mean points to (3, 1), of units to (1, 1)."""
    frames = torch.tensor([[[3.0, 0.0], [0.0, 1.0], [9.0, 9.0]], [[7.0, 7.0]] * 3])
    batch = FeatureBatch(frames, torch.tensor([2, 0]))
    head = build_head(MEAN, 2)
    assert torch.allclose(head.encode_clips(batch)[0], torch.tensor([1.0, 1.0]) / 2**0.5)
    head.averages = "before"
    assert torch.allclose(head.encode_clips(batch)[0], torch.tensor([3.0, 1.0]) / 10**0.5)
    assert head.encode_clips(batch)[1].tolist() == [0.0, 0.0]
