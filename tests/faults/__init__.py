"""Everything that can go wrong with a disk, a network or a process, done to our commands."""
