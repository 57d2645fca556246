"""Audit before training: is it imbalance, or an artefact?"""
