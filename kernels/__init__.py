"""Kernels: fused pooling, blocked similarity with top-k, contrastive loss, exact ranks."""
