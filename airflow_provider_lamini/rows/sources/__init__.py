"""The rows of an input: lists, tables, files, queries and functions, read in chunks from any position."""
