"""What the bodies of an exchange say about it. Pure: bytes in, values out."""

from gateway.compiled import extend

extend(__path__, "features")
