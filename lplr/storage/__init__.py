"""Bits and files: code words packed without a lost bit, and the one file format."""
