"""Losses, one module each, and what they share: masks, normalisation, what a loss is bound to."""
