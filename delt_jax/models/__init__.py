"""What sees the images: Flax architectures, their registry, and torch weights in and out."""
