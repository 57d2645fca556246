"""G-code: blocks read, labelled by command, and written as tokens."""
