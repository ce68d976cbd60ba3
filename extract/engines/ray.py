"""Tasks on a Ray cluster, one a shard; clips that kill their process are found by bisection."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from c4c.cache.open import Cache, commit_shard
from c4c.cache.plan import Manifest
from c4c.cache.stored import holds
from c4c.core.cluster import connect
from c4c.core.errors import C4CError
from c4c.core.progress import Progress, say
from c4c.core.records import Clip
from c4c.core.signals import StopRequest
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.build import needs_file
from c4c.extract.config import ExtractConfig, ExtractResult
from c4c.extract.copies import copy_clips, decoded_parts
from c4c.extract.part import extract_part, stopped
from c4c.extract.pipeline import (
    extract_captions,
    mine,
    open_backbone,
    other_decoder,
    prepare,
    settled,
    summary,
)
from c4c.extract.settle import undone

_RETRIES = 2  # of a task whose process or machine died, before its clips are looked at one by one


def run_ray(config: ExtractConfig) -> ExtractResult:
    """A task a shard; the captions, which are quick, here."""
    config = settled(config)
    ray = connect(config.address)
    try:
        cache, manifests, backbone = prepare(config)
        for manifest in manifests:
            extract_captions(cache, manifest, backbone, config)
            _Tasks(ray, cache, manifest, config).run()
        copy_clips(cache, manifests)
        return summary(cache, manifests)
    finally:
        ray.shutdown()


class _Tasks:
    """The tasks of one split on a Ray cluster."""

    def __init__(self, ray: Any, cache: Cache, manifest: Manifest, config: ExtractConfig) -> None:
        folder = cache.path.absolute()  # tasks start in folders of their own
        self.cache = Cache(folder, cache.dataset, cache.fingerprint)
        self.ray, self.manifest = ray, manifest
        self.stop = StopRequest()
        cores = config.workers or 1
        most = max(
            (one["Resources"].get("CPU", 0) for one in ray.nodes() if one["Alive"]), default=0
        )
        if cores > most:
            say(f"no machine of the cluster has {cores} cores now (the most is {most:g}): waiting")
        gpus = ray.cluster_resources().get("GPU", 0) > 0 and config.device != "cpu"
        weights = config.pretrained
        if weights and needs_file(config.backbone, weights):
            weights = os.path.abspath(weights)
        self.config = replace(config, workers=cores, cache=folder, pretrained=weights)
        self.task = ray.remote(
            num_cpus=cores, num_gpus=int(gpus), max_retries=_RETRIES, scheduling_strategy="SPREAD"
        )(_extract_on_worker)

    def run(self) -> None:
        """Extract every shard of this run's slice that is not there yet.

        Raises:
            C4CError: a task cannot do its work, or too many clips fail.
        """
        # Paths must mean the same on every machine, whatever folder its processes start in.
        clips = {c.id: replace(c, path=os.path.abspath(c.path)) for c in self.manifest.clips}
        parts = mine(decoded_parts(self.cache, self.manifest), self.config)
        todo = undone(self.cache, self.manifest, parts, "clips")
        total = sum(len(part.ids) for part in parts)
        waiting = {}
        for part in todo:
            own, path = tuple(clips[name] for name in part.ids), self._path(part)
            waiting[self.task.remote(self.config, own, path)] = (own, path)
        done = total - sum(len(part.ids) for part in todo)
        failed = 0
        bar = Progress(f"extract {self.manifest.split}", total, done=done)
        with bar as progress, self.stop:
            while waiting:
                for one in self._ready(list(waiting)):
                    own, path = waiting.pop(one)
                    failed += self._outcome(one, own, path)
                    progress.step(len(own))
                if failed > self.config.max_fail_rate * total:
                    raise C4CError(
                        f"{failed} of {total} clips of '{self.manifest.split}' have failed, more "
                        f"than --max-fail-rate {self.config.max_fail_rate:g}."
                    )

    def _path(self, part: Any) -> Path:
        return self.manifest.shard_path(self.cache.path, part, "clips")

    def _outcome(self, task: Any, clips: Sequence[Clip], path: Path) -> int:
        """How many clips failed; finds those that end their process."""
        try:
            return self._get(task)
        except self.ray.exceptions.RayError:
            say(f"{path.name}: its process died {_RETRIES + 1} times; looking for the clip")
        killers = isolate(clips, self._survives)
        try:
            return self._get(self.task.remote(self.config, clips, path, killers))
        except self.ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            raise C4CError(f"{path.name}: cannot be made on the cluster ({reason}).") from None

    def _survives(self, clips: Sequence[Clip]) -> bool:
        try:
            self._get(self.task.options(max_retries=0).remote(self.config, clips, None))
        except self.ray.exceptions.RayError:
            return False
        return True

    def _ready(self, tasks: list[Any]) -> list[Any]:
        """Those that have ended, after a while; none may have.

        Raises:
            Interrupted: somebody asks to stop.
        """
        ready, _ = self.ray.wait(tasks, timeout=0.5)
        if self.stop.name:
            raise stopped(self.stop)
        return list(ready)

    def _get(self, task: Any) -> int:
        while not self._ready([task]):
            pass
        found = self.ray.get(task)
        if isinstance(found, str):
            raise C4CError(found)
        return int(found)


def isolate(clips: Sequence[Clip], survives: Callable[[Sequence[Clip]], bool]) -> frozenset[str]:
    """Ids of the clips that end the process that handles them, by bisection.

    Args:
        clips: some of them did.
        survives: tries clips in a process of their own; whether that lived.
    """
    found: set[str] = set()
    todo = [list(clips)]
    while todo:
        some = todo.pop()
        if survives(some):
            continue
        if len(some) == 1:
            found.add(some[0].id)
        else:
            todo += [some[: len(some) // 2], some[len(some) // 2 :]]
    return frozenset(found)


def _extract_on_worker(
    config: ExtractConfig,
    clips: Sequence[Clip],
    path: Path | None,
    killers: frozenset[str] = frozenset(),
) -> int | str:
    """A Ray task: make one shard and commit it (without a path: only try).

    Returns:
        How many clips failed, or the words of an error that trying again does not mend.
    """
    try:
        assert config.cache is not None
        if path is not None and holds(path, Cache.open(config.cache).owner):
            return 0
        cache, backbone = _worker_backbone(config)
        with contextlib.redirect_stderr(None):
            decoder = other_decoder(cache, config)
            shard = extract_part(clips, backbone, config, killers, decoder)
        if path is not None:
            commit_shard(cache, path, shard)
    except C4CError as error:
        return str(error)
    except Exception as error:  # raised, not died of: looking for a clip would blame them all
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{socket.gethostname()}: {words}"[:400]
    return int((np.diff(shard.offsets) == 0).sum())


@functools.cache
def _worker_backbone(config: ExtractConfig) -> tuple[Cache, Backbone]:
    """Loaded once a process, which handles many shards."""
    assert config.cache is not None
    return open_backbone(config.cache, config)
