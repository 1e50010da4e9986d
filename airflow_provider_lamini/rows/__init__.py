"""Rows from and to storage, in bounded memory: storage, prompts, sources, ledger, output, answers."""
