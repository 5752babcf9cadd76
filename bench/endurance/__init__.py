"""Long runs with real processes: what breaks, and what grows."""
