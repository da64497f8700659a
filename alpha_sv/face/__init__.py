"""Faces: images, iresnet, pairs and the template protocol of IJB.
Losses, heads and metrics are those of speech."""
