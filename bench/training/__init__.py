"""What training gains, beside a throw-away adapter, BM25 and the frozen encoder."""
