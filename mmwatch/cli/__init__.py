"""The commands, one module each; the one place that wires the rest and turns errors into exit codes."""
