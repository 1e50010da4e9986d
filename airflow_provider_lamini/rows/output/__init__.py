"""What a run writes to its output folder, and what later runs take from it."""
