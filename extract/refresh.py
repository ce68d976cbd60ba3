"""Which clips of a cache newer rules of decoding concern (``c4c extract --refresh``).

Shards say by which rules their clips were decoded. What is older is looked at in the decoder
processes, header by header; only clips that would get other frames now are extracted again.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from c4c.cache.identity import Owner
from c4c.cache.plan import Manifest
from c4c.cache.shard import STATUS
from c4c.cache.stored import holds, read_shard
from c4c.core.cores import cores
from c4c.core.progress import Progress, say
from c4c.extract.config import ExtractConfig
from c4c.extract.video.pool import Ended, decode_pieces
from c4c.extract.video.request import Request
from c4c.extract.video.rules import RULES, Extracted


def outdated(owner: Owner, manifest: Manifest, config: ExtractConfig) -> frozenset[str]:
    """Ids of the clips that would get other frames by the rules of now; says how many, and why.

    Raises:
        C4CError: shards that are damaged, or processes that cannot be started.
    """
    clips = list(_older(owner, manifest))
    if not clips:
        return frozenset()
    request = Request(config.fps, config.max_frames, config.sampling, config.decoder)
    workers = config.workers or cores()
    reasons: dict[str, str] = {}
    looked_at = decode_pieces(clips, request, workers, config.deadline)
    with contextlib.closing(looked_at), Progress("refresh", len(clips)) as progress:
        ends = (part for part in looked_at if isinstance(part, Ended))
        for clip, end in zip(clips, ends, strict=True):
            if end.status == "outdated":
                reasons[clip.id] = end.message
            progress.step()
    say(f"{manifest.dataset} {manifest.split}: {_told(len(clips), reasons)}")
    return frozenset(reasons)


def _older(owner: Owner, manifest: Manifest) -> Iterator[Extracted]:
    """The clips that were extracted by older rules, and what they have."""
    clips = {clip.id: clip for clip in manifest.clips}
    for part in manifest.parts:
        path = manifest.shard_path(owner.path, part, "clips")
        if not holds(path, owner):
            continue
        shard = read_shard(path, owner)
        row_of = {name: row for row, name in enumerate(shard.texts["ids"])}
        for name in part.ids if shard.rules < RULES else ():
            clip, row = clips[name], row_of[name]
            yield Extracted(
                clip.id,
                clip.path,
                clip.start,
                clip.end,
                tuple(shard.seconds(row).tolist()),
                STATUS[shard.status[row]],
                shard.texts["messages"][row],
            )


def _told(count: int, reasons: dict[str, str]) -> str:
    """What was found among ``count`` clips, in words."""
    if not reasons:
        return f"newer rules of decoding change nothing in {count} clips"
    kinds = Counter(word for why in reasons.values() for word in why.split(", "))
    told = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common())
    return (
        f"newer rules of decoding concern {len(reasons)} of {count} clips ({told}; first "
        f"'{min(reasons)}'); they are extracted again"
    )
