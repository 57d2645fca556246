"""Many trials of one shape (strategies, seeds, learning rates) trained at once: one pass of the network for all."""
