"""The contrastive loss."""
