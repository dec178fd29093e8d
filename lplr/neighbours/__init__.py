"""Search among the rows of compressed matrices."""
