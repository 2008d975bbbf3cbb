"""One adapter per data set: files in, events, articles and customers out."""
