"""The gateway beside its peers, one core each: `make bench-gateway`."""
