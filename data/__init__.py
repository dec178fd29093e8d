"""Small real data; README.md names origin, licence and command for each file."""
