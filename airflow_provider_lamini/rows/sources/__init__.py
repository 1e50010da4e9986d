"""The rows of an input: lists and files, read in chunks from any position."""
