"""What happened, and what we know of a customer: events, fold, state, embeddings."""
