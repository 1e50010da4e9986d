"""Data for training and retrieval: pairs, labelled examples, documents and index manifests."""
