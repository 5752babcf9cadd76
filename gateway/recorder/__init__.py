"""The process that carries spooled exchanges into the feature store. docs/spool.md."""

from gateway.compiled import extend

extend(__path__, "recorder")
