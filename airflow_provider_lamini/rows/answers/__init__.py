"""What a row gets back: which answers count, in which shape, and what they cost."""
