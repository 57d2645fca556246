"""Files that are damaged at random, and processes that are killed at random."""
