"""The library: what the gateway and the agent share, and everything around models."""
