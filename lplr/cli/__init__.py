"""The command line: one module a command, and the only place of the package that prints."""
