"""One process a device; each takes every nth shard."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess

from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.core.signals import StopRequest
from c4c.extract.config import ExtractConfig, ExtractResult
from c4c.extract.copies import copy_clips
from c4c.extract.part import stopped
from c4c.extract.pipeline import prepare, run_extract, settled, summary


def run_devices(config: ExtractConfig, devices: Sequence[str]) -> ExtractResult:
    """A process a device; each takes every nth shard."""
    config = settled(config)
    cache, manifests, _ = prepare(replace(config, device=devices[0]))
    context = multiprocessing.get_context("spawn")
    part, parts = config.shard_slice
    running: list[BaseProcess] = []
    for place, device in enumerate(devices):
        every = (part + parts * place, parts * len(devices))
        own = replace(config, device=device, shard_slice=every, retry_failed=False, refresh=False)
        running.append(context.Process(target=_device, args=(own,)))
    with StopRequest() as stop:
        for process in running:
            process.start()
        while any(process.is_alive() for process in running):
            for process in running:
                process.join(0.2)
                if stop.name and process.is_alive():
                    process.terminate()
            if stop.name:
                break
        for process in running:
            process.join()
        if stop.name:
            raise stopped(stop)
    bad = [name for name, one in zip(devices, running, strict=True) if one.exitcode != 0]
    if bad:
        raise C4CError(f"The process on {', '.join(bad)} ended early (see above); run it again.")
    copy_clips(cache, manifests)
    return summary(cache, manifests)


def _device(config: ExtractConfig) -> None:
    """One device's process: errors are lines, as in the command."""
    try:
        run_extract(config)
    except C4CError as error:
        say(f"{config.device}: {error}")
        raise SystemExit(2) from None
