"""The process that carries spooled exchanges into the feature store. docs/spool.md."""
