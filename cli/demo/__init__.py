"""The demo: the whole loop on one machine, with real queries, told as a story."""
