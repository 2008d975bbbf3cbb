"""Vectors of articles from their text and photos: what can be said of an article nobody has bought yet."""
