"""The console: pages served by the agent at `/`, and the reads that only they need."""
