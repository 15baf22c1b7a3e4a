"""Product tests: the API by hand, byte by byte where that matters, and the command line."""
