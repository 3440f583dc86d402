"""What a published network finds: galleries of its test images, one's own images, and its weights for other programs."""
