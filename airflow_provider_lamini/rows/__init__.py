"""Rows from and to storage, in bounded memory: sources, prompts, ledger, answers, output."""
