"""Measurements against the tools that others use; ``scripts/bench`` runs them."""
