"""What models learn from and look up: training pairs, labelled examples, documents and index manifests."""
