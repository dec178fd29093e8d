"""The file format: packed matrices to files and back."""
