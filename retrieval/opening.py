"""What a search or an evaluation is of: settings in; cache, head and bank of queries out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.cluster import ENGINES, check_engine
from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.limits import HITS, MOST_FRAMES, MOST_HITS
from c4c.core.settings import check, setting
from c4c.retrieval.choices import RERANKS, TIES

if TYPE_CHECKING:
    from c4c.cache.open import Cache
    from c4c.core.sampling import View
    from c4c.extract.backbone.backbone import Backbone
    from c4c.extract.backbone.text import TextTower
    from c4c.heads.base import Head
    from c4c.retrieval.ranking import Rerank


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Settings of a search: what is searched, and by what.

    Attributes:
        cache: feature cache; ``None`` is the only one below ``c4c-cache``.
        checkpoint: checkpoint folder; ``None`` is mean pooling, which needs none.
        split: split to search or evaluate; ``None`` is all for search, ``test`` to evaluate.
        shortlist: clips or moments that a tight head looks at; ``None`` is 100 for search, and
            every pair to evaluate.
        rerank: ``none``, ``qbnorm`` (which answers with whole clips) or ``dual-softmax``.
        bank: split whose captions and clips are QB-Norm's bank of queries; ``None`` is the one
            that the checkpoint was trained on, or ``train``.
        max_frames: frames of a clip; ``None`` is what the checkpoint was trained with.
        device: where head and text tower run; ``None`` takes a GPU when there is one.
        pretrained: weights for the texts; ``None`` is a tag that the cache names, or the file that
            was passed for the same weights before.
        tokenizer: folder or file of the tokenizer; ``None`` is the one that was passed then.
        whole: search whole clips instead of moments in them.
        window: lengths of windows in seconds; none given is those of ``Windows``.
        hop: seconds from one window to the next; ``None`` is one, or a quarter of its length where
            that is shorter.
        engine: ``local`` searches in this process, ``ray`` on a Ray cluster.
        address: of the cluster; ``None`` is Ray's own choice.
    """

    cache: Path | None = setting("Data", "Feature cache. [the one below c4c-cache/]", None)
    split: str | None = setting("Data", "Split to use. [all; test with --evaluate]", None)
    checkpoint: Path | None = setting("Model", "Trained head. [mean pooling]", None)
    pretrained: str | None = setting("Model", "Weights for the texts. [those of the cache]", None)
    tokenizer: Path | None = setting(
        "Model", "The one that the cache was made with. [as it was passed then]", None
    )
    max_frames: int | None = setting(
        "Frames", "Frames a clip. [as trained]", None, within=(1, MOST_FRAMES)
    )
    whole: bool = setting("Answers", "Answer with whole clips, not moments in them.", False)
    window: tuple[float, ...] = setting(
        "Answers", "Seconds of a window; repeatable. [4, 8 and 16]", ()
    )
    hop: float | None = setting(
        "Answers", "Seconds between windows. [1, or a quarter of their length]", None
    )
    device: str | None = setting("Machine", "cpu, cuda, cuda:1. [a GPU when there is one]", None)
    shortlist: int | None = setting(
        "Advanced",
        "Answers that a tight head looks at. [100; all with --evaluate]",
        None,
        within=(1, MOST_HITS),
    )
    rerank: str = setting(
        "Advanced",
        "Of whole clips, against hubs; labelled.",
        "none",
        choices=("none", *RERANKS),
    )
    bank: str | None = setting(
        "Advanced", "Split of QB-Norm's queries. [that of the training, or train]", None
    )

    engine: str = setting(
        "Machine", "ray: a Ray cluster searches the gallery.", "local", choices=ENGINES
    )
    address: str | None = setting(
        "Machine", "Of the Ray cluster, such as ray-head:6379. [this machine]", None
    )

    def __post_init__(self) -> None:
        check(self)
        check_engine(self.engine, self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveConfig(SearchConfig):
    """Settings of ``c4c retrieve``.

    Attributes:
        top_k: answers a query.
        ties: ``expected`` or ``authors``; of an evaluation.
    """

    top_k: int = setting("Answers", "Answers a query.", HITS, within=(1, MOST_HITS))
    ties: str = setting("Evaluation", "authors: show their column too.", "expected", choices=TIES)


def for_search(config: SearchConfig) -> SearchConfig:
    """The settings as a search takes them: what is re-ranked are whole clips.

    Raises:
        C4CError: a way of re-ranking that needs all queries.
    """
    if config.rerank == "dual-softmax":
        raise C4CError("--rerank dual-softmax is for --evaluate: it needs all queries of a split.")
    return replace(config, whole=config.whole or config.rerank != "none")


def looks_at_clips(config: SearchConfig, head: Head) -> bool:
    """Whether a search looks at the clips of the cache themselves, and not at a gallery.

    Raises:
        C4CError: that is not done on a cluster.
    """
    looks = config.whole and (not head.loose or config.rerank != "none")
    if looks and config.engine == "ray":
        raise C4CError(
            "--engine ray searches a gallery; leave it out for --rerank, and for --whole with a "
            "tight head."
        )
    return looks


def open_head(config: SearchConfig) -> tuple[Cache, Head, View, dict[str, Any]]:
    """The cache, the head on its device, the frames it is to see, and how it was trained.

    Raises:
        C4CError: cache or checkpoint cannot be read, or were not made for each other.
    """
    from c4c.cache.open import Cache, find_cache
    from c4c.core.sampling import View
    from c4c.heads import MEAN, build_head
    from c4c.heads.checkpoint import load_checkpoint

    cache = Cache.open(find_cache(config.cache))
    device = pick_device(config.device)
    if config.checkpoint is None:
        hidden = cache.features == "hidden"
        head = build_head(MEAN, cache.dim, cache.head_init(), hidden=hidden)
        return cache, head.to(device), View(config.max_frames), {}
    found = load_checkpoint(config.checkpoint)
    _check_fit(cache, found.meta, config.checkpoint)
    cache.require_features(found.head.projections is not None)
    if found.head.dim != cache.dim:
        raise C4CError(
            f"{config.checkpoint} takes features of {found.head.dim} channels, and those of "
            f"{cache.path} have {cache.dim}; use a cache of the backbone it was trained on."
        )
    settings = found.meta.get("config", {})
    limit = config.max_frames or settings.get("max_frames")
    view = View(
        limit,
        settings.get("sampling", "uniform"),
        settings.get("eval_order", "ordinary"),
        fps=_rate(cache, found.meta),
    )
    return cache, found.head.to(device), view, found.meta


def _check_fit(cache: Cache, meta: dict[str, Any], path: Path) -> None:
    """A head means something only on features of the backbone that it was trained on."""
    theirs = (meta.get("fingerprint") or {}).get("sha256")
    if theirs and theirs != cache.fingerprint.sha256:
        raise C4CError(
            f"{path} was trained on features of another backbone (weights {theirs[:12]}, the cache "
            f"{cache.path} has {cache.fingerprint.sha256[:12]}); extract with that backbone "
            f"(for an end-to-end checkpoint: c4c extract --pretrained {path})."
        )


def _rate(cache: Cache, meta: dict[str, Any]) -> float | None:
    """Frames a second that a head was trained on, where the cache has more of them."""
    from c4c.core.sampling import rate_of

    theirs = rate_of(str((meta.get("fingerprint") or {}).get("sampling", "")))
    own = rate_of(cache.fingerprint.sampling)
    return theirs if theirs and own and own > theirs else None


def rerank_of(
    config: SearchConfig, cache: Cache, split: str | None, trained: dict[str, Any]
) -> Rerank | None:
    """What re-ranks, with its bank of queries: at most ``BANK`` captions of another split.

    Raises:
        C4CError: the bank is the split that is searched, is not there, or has no captions.
    """
    import numpy as np

    from c4c.retrieval.ranking import Rerank
    from c4c.retrieval.rerank import BANK

    if config.rerank == "none":
        return None
    if config.rerank == "dual-softmax":
        return Rerank("dual-softmax")
    bank = config.bank or (trained.get("config") or {}).get("train_split", "train")
    if bank not in cache.splits or bank == split:
        others = ", ".join(name for name in cache.splits if name != split) or "none"
        raise C4CError(
            f"--rerank qbnorm needs a bank of other queries: --bank SPLIT, of {others} "
            f"(now '{bank}')."
        )
    captions = cache.captions(bank)
    if not len(captions):
        raise C4CError(f"--bank {bank} has no captions in {cache.path}.")
    some = np.random.default_rng(0).permutation(len(captions))[:BANK]
    return Rerank("qbnorm", cache.clips(bank), captions.batch(np.sort(some)))


def load_tower(cache: Cache, config: SearchConfig) -> TextTower | Backbone:
    """The text tower of the backbone that made the cache; alone, where that is possible.

    Raises:
        C4CError: see ``load_whole``.
    """
    from c4c.extract.backbone.text import open_text_tower

    if config.tokenizer is None:
        tower = open_text_tower(cache.fingerprint, config.pretrained, config.device)
        if tower is not None:
            return tower
    return load_whole(cache, config)


def load_whole(cache: Cache, config: SearchConfig) -> Backbone:
    """The backbone that made the cache.

    Raises:
        C4CError: its weights are in a file that nobody passed here, or are others now.
    """
    from c4c.extract.backbone.load import load_backbone
    from c4c.extract.backbone.trusted import remember, tokenizer_of, weights_of

    made = cache.fingerprint
    weights = config.pretrained or weights_of(made, cache.path)
    tokenizer = tokenizer_of(made, cache.path, config.tokenizer)
    backbone = load_backbone(made.model, weights, config.device, made.dtype, tokenizer=tokenizer)
    if backbone.sha256 != made.sha256:
        raise C4CError(
            f"{cache.path} was made with other weights than '{weights}' are now; pass "
            "--pretrained with the ones it was made with, or extract again."
        )
    remember(backbone)
    return backbone
