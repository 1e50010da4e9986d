"""Engines generate text and compute embedding vectors, either with llama.cpp in this process or on an upstream server."""
