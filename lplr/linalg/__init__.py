"""The linear algebra that both papers need."""
