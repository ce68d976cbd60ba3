"""Training: one loop, fed from the cache or from frames; losses, checkpoints, the study."""
