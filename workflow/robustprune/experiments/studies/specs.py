"""Studies without images: models small enough to be understood."""
