"""The packed matrices that the package returns."""
