"""Families of networks: the names of their tensors, their configuration and their blocks."""
