"""The command line: everything a terminal needs; nobody imports it."""
