"""Whatever a classifier answered, as a predictions table."""
