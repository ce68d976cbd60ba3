"""What is served: caches with their searchers, and their videos under opaque ids.

Paths come from the cache and never from a request: a request names an id, and an id that is not
in the table is not found.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.cache.findings import Failure
from c4c.cache.open import find_cache, list_shards
from c4c.core.errors import C4CError
from c4c.core.inside import is_there
from c4c.core.progress import say
from c4c.serve.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from c4c.cache.open import Cache
    from c4c.core.records import Clip
    from c4c.retrieval.searcher import Searcher

_LOOK = 3.0  # seconds between two looks at whether a cache has changed


def video_id(path: str) -> str:
    """The id of a video: the same at every start, so that addresses can be sent to someone."""
    return hashlib.blake2b(os.fsencode(path), digest_size=12, person=b"c4c-video").hexdigest()


@dataclass(slots=True)
class Video:
    """A video of a cache, with its clips.

    Attributes:
        id: what requests name it by.
        path: the file.
        clips: split and clip, in order of time.
        status: of each clip by (split, id): ``ok``, ``partial``, or what failed and why.
    """

    id: str
    path: str
    clips: list[tuple[str, Clip]] = field(default_factory=list)
    status: dict[tuple[str, str], Failure] = field(default_factory=dict)

    @property
    def worst(self) -> str:
        """``failed``, ``partial`` or ``ok``."""
        kinds = {failure.status for failure in self.status.values()}
        if kinds - {"partial"}:
            return "failed"
        return "partial" if kinds else "ok"


class Contents:
    """What one state of a cache holds, by video.

    Args:
        cache: the cache.

    Raises:
        C4CError: shards are missing or damaged.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.videos: dict[str, Video] = {}
        self.missing: list[str] = []
        self.frames = 0
        for split, manifest in cache.manifests.items():
            clips = cache.clips(split)
            self.missing += clips.missing
            self.frames += int(clips.lengths.sum())
            status = {one.clip_id: one for one in clips.failed}
            for row, name in enumerate(clips.ids):
                if clips.state(row)[1]:
                    words = "the video is damaged; its frames end early"
                    status[name] = Failure(name, "partial", words)
            for clip in manifest.clips:
                video = self._video(clip.path)
                video.clips.append((split, clip))
                if clip.id in status:
                    video.status[split, clip.id] = status[clip.id]
        for video in self.videos.values():
            video.clips.sort(key=lambda one: (one[1].start, one[1].id))

    def _video(self, path: str) -> Video:
        name = video_id(path)
        return self.videos.setdefault(name, Video(name, path))

    @cached_property
    def captions(self) -> dict[tuple[str, str], list[str]]:
        """Captions by split and clip."""
        found: dict[tuple[str, str], list[str]] = {}
        for split, manifest in self.cache.manifests.items():
            for caption in manifest.captions:
                found.setdefault((split, caption.clip_id), []).append(caption.text)
        return found

    @cached_property
    def _sentences(self) -> list[tuple[str, str]]:
        """Each caption once, in small letters and as it is."""
        texts = {text for texts in self.captions.values() for text in texts}
        return sorted((text.lower(), text) for text in texts if len(text) <= 200)

    def suggestions(self, words: str, most: int) -> list[str]:
        """Captions that begin with some words; then those that contain them."""
        words = words.lower().strip()
        if not words:
            return []
        begin = [text for low, text in self._sentences if low.startswith(words)][:most]
        if len(begin) < most:
            begin += [t for low, t in self._sentences if words in low and not low.startswith(words)]
        return begin[:most]

    @cached_property
    def folders(self) -> list[str]:
        """The folders that videos lie in, most videos first."""
        counts: dict[str, int] = {}
        for video in self.videos.values():
            folder = os.path.dirname(video.path)
            counts[folder] = counts.get(folder, 0) + 1
        return sorted(counts, key=lambda one: (-counts[one], one))[:200]


class Gallery:
    """A cache that is served: its searcher, and what it holds.

    Args:
        name: what requests name it by.
        searcher: answers questions about it.
    """

    def __init__(self, name: str, searcher: Searcher) -> None:
        self.name, self.searcher = name, searcher
        self.batcher = Batcher(searcher)
        self.contents = Contents(searcher.cache)
        self.problem = ""  # why the cache's newest state cannot be served yet

    def look(self) -> None:
        """Take up what the cache has gained; while that is not whole, what was before is served."""
        try:
            if self.searcher.refresh():
                self.contents = Contents(self.searcher.cache)
            self.problem = ""
        except C4CError as error:
            self.problem = str(error)

    def progress(self) -> tuple[int, int]:
        """Shards of clips that are written, and those that are planned: extraction goes on."""
        from c4c.cache.open import Cache

        try:
            cache = Cache.open(self.searcher.cache.path)
            paths = [
                manifest.shard_path(cache.path, part, "clips")
                for manifest in cache.manifests.values()
                for part in manifest.parts
            ]
            return sum(is_there(path, cache.path) for path in paths), len(paths)
        except C4CError:  # it is being changed just now
            return 0, 0

    def description(self) -> dict[str, Any]:
        """Counts, failures with reasons, disk, backbone and progress, as plain data."""
        contents, made = self.contents, self.searcher.cache.fingerprint
        videos = contents.videos.values()
        wrong = [
            {"video": video.id, "path": video.path, "clip": one.clip_id, "status": one.status,
             "message": one.message}
            for video in videos for one in video.status.values()
        ]  # fmt: skip
        written, planned = self.progress()
        clips = sum(len(video.clips) for video in videos)
        return {
            "name": self.name,
            "path": str(contents.cache.path),
            "dataset": contents.cache.dataset,
            "videos": len(videos),
            "clips": clips,
            "frames": contents.frames,
            "captions": sum(map(len, contents.captions.values())),
            "partial": sum(one["status"] == "partial" for one in wrong),
            "failed": sum(one["status"] != "partial" for one in wrong),
            "missing": len(contents.missing),
            "problems": wrong[:200],
            "bytes": sum(os.lstat(one).st_size for one in list_shards(contents.cache.path)),
            "backbone": made.model,
            "weights": made.weights,
            "head": self.searcher.head.name,
            "shards_written": written,
            "shards_planned": planned,
            "waiting_for": self.problem,
            "folders": contents.folders,
        }

    def close(self) -> None:
        """Answer what waits, then let go of the model."""
        self.batcher.close()
        self.searcher.close()


class Library:
    """Everything that is served.

    Args:
        galleries: by name; the first one is meant where a request names none.
        watch: look again and again whether their caches have changed.
    """

    def __init__(self, galleries: Mapping[str, Gallery], watch: bool = True) -> None:
        self.galleries = dict(galleries)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if watch:
            self._thread = threading.Thread(target=self._watch, name="c4c-watch", daemon=True)
            self._thread.start()

    @classmethod
    def open(
        cls,
        caches: Sequence[Path],
        checkpoint: Path | None = None,
        device: str | None = None,
        pretrained: str | None = None,
    ) -> Library:
        """Open caches; their galleries are made where there are none yet.

        Args:
            caches: folders; none is the only one below ``c4c-cache/``.
            checkpoint: trained head; ``None`` is mean pooling.
            device: where head and text tower run.
            pretrained: weights for the texts.

        Raises:
            C4CError: a cache cannot be read, or cannot be searched.
        """
        from c4c.retrieval.searcher import Searcher

        galleries: dict[str, Gallery] = {}
        for cache in caches or (find_cache(None),):
            searcher = Searcher(cache, checkpoint, device=device, pretrained=pretrained)
            gallery = searcher.gallery  # made now, not when the first question comes
            name = _free_name(searcher.cache.path.resolve().name, galleries)
            galleries[name] = Gallery(name, searcher)
            say(f"{name}: {len(gallery)} clips, {gallery.windows} windows")
        return cls(galleries)

    def gallery(self, name: str | None) -> Gallery | None:
        """The gallery of a name, or the first one; ``None`` when there is none of that name."""
        return self.galleries.get(name or next(iter(self.galleries)))

    def video(self, name: str) -> tuple[Gallery, Video] | None:
        """A video by its id, with a gallery that it is in."""
        for gallery in self.galleries.values():
            video = gallery.contents.videos.get(name)
            if video is not None:
                return gallery, video
        return None

    def close(self) -> None:
        """Answer what waits, and let go of everything."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        for gallery in self.galleries.values():
            gallery.close()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK):
            for gallery in self.galleries.values():
                gallery.look()


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
