"""What the tracker and the registry share: the connection to MLflow, and the local queue."""
