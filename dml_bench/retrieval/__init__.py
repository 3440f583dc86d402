"""What a published network finds: in its test images, among one's own, and from within other programs."""
