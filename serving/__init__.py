"""What to show now: retrieval, filters, features, ranking, answers on a topic and over HTTP."""
