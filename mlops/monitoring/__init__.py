"""What is wrong with an hour of the log, told from the hours before it."""
