"""Deterministic simulation: the product's own code over a real store, every step of it chosen by one seed."""
