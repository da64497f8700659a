"""A model in use: embeddings, and what follows from them, for one recording or two."""
