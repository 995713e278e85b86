"""Rows of the kernel's table to what a person or a program reads. Pure: no clock, no file, no kernel."""
