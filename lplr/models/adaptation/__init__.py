"""Training of what stands beside the codes of a compressed network, and its coding."""
