"""Memory RAG: text out of documents, passages, vectors, retrieval, and answers with passages."""
