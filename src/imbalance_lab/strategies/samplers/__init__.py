"""Samplers: which training sequences an epoch sees, and how often."""
