"""The world that keeps things: S3 and registries, one file each; import the file, not us."""
