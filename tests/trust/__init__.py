"""What happens when a run is killed, the disk is full, or many write at once."""
