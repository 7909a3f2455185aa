"""Programs that we start: one file each."""
