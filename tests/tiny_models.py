"""Tiny random networks on disk, and what is compared of compressed ones."""

from lplr.selftest.tiny import CONFIG, TOKENS, content, tiny_checkpoint

__all__ = ["CONFIG", "TOKENS", "content", "tiny_checkpoint"]
