"""Answered exchanges on disk between a gateway worker and the recorder. docs/spool.md."""
