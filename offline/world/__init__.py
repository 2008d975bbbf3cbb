"""A synthetic fashion shop with a known best answer: catalogue, customers, demand, events, pictures, files."""
