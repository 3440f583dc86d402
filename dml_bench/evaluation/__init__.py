"""From images to embeddings to scores."""
