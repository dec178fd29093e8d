"""Whole models: checkpoints, networks in NumPy, and their compression."""
