"""What an image is described by, so that like images lie near each other."""
