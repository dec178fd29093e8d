"""Values to codes under a weight."""
