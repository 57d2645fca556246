"""The loop, checkpoints, the collapse monitor."""
