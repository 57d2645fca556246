"""Error analysis: one module per analysis, predictions table -> table(s)."""
