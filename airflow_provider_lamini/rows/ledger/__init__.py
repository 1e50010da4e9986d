"""The ledger of a row run: which chunks are done, and which jobs are under way."""
