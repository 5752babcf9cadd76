"""What the bodies of an exchange say about it. Pure: bytes in, values out."""
