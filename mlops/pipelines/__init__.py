"""What the pipelines do beside training: ask for it, release what came of it, and tell of it."""
