"""What `scripts/image` is made of: one file a part of the image. Nothing here needs root or a loop device."""
