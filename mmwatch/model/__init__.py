"""Turns rows of the kernel's table into what people and programs read. Pure: no clock, no files, no kernel."""
