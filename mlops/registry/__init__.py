"""The registry's values, and which version number a change deserves. No I/O."""
