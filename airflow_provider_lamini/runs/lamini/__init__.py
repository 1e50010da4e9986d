"""What tasks do with Lamini jobs while they run."""
