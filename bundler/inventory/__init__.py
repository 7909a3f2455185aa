"""What the images of a release hold: read from the databases of package managers in their layers.

The parsers are pure: bytes in, packages out, ValueError where they are not what they should be.
"""
