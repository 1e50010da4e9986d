"""The output folder of a row run: parts, errors and the manifest."""
