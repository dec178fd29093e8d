"""The one gate: what a caller passes is checked once; everything behind it trusts its input."""
