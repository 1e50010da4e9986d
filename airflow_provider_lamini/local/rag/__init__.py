"""Memory RAG: reads documents, splits them into passages, indexes their vectors, and builds prompts with them."""
