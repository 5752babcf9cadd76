"""The feature store: rows of answered requests in ClickHouse, and what the agent reads of them."""
