"""What compression did to a network: its predictions, its answers, its embeddings."""
