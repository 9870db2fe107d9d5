"""Score stores that teams publish, find and trust: places, what lies there, publishing, looking up and pulling."""
