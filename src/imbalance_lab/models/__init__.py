"""Encoders, decoders and the small networks for tables and images."""
