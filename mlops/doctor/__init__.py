"""Look at every part of a system and say what is wrong, and how it is mended."""
