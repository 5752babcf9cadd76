"""What runs on one machine in place of servers: the same interfaces, nothing to install."""
