"""What the local platform does when it is not asked to answer at once."""
