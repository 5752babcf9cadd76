"""Values that two processes must agree on to the letter. No I/O, no clock, msgspec alone."""
