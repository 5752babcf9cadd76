"""How good a retrieval model is, and whether it is better than another beyond chance."""
