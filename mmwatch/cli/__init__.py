"""The commands, one module each: they wire the rest together and turn errors into exit codes."""
