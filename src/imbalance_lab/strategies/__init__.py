"""Strategies against class imbalance: weights, losses, samplers, schedules, heads, post-hoc."""
