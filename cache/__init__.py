"""Features on disk: write-once shards, their plan, and every reader of them."""
