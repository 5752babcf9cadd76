"""Answered exchanges on disk between a gateway worker and the recorder. docs/spool.md."""

from gateway.compiled import extend

extend(__path__, "spool")
