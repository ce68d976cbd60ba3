"""Where an extraction runs: in this process, one process a device, or tasks on a Ray cluster.

All of them carry out the same plan, commit the same shards and may run beside each other on one
cache; on a Slurm array, ``--slice`` needs no engine at all (docs/howto/clusters.md).
"""

from __future__ import annotations

from c4c.core.device import pick_device
from c4c.extract.config import ExtractConfig, ExtractResult
from c4c.extract.engines.devices import run_devices
from c4c.extract.engines.ray import run_ray
from c4c.extract.pipeline import run_extract


def run_with_engine(config: ExtractConfig) -> ExtractResult:
    """Extract as ``config.engine`` and ``config.device`` say.

    Raises:
        C4CError: what cannot be used, too many failures, or processes that died.
    """
    if config.engine == "ray":
        return run_ray(config)
    given = [] if config.device is None else config.device.split(",")
    devices = [name.strip() for name in given]
    for name in devices:
        pick_device(name)
    return run_devices(config, devices) if len(devices) > 1 else run_extract(config)
