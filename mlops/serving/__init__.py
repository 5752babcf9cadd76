"""A retrieval model server: versions that swap while they serve, and what they are made of."""
