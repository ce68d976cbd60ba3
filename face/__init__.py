"""What Python programs call: the public functions of ``c4c``, with the command line's settings."""
