"""Images in a plane, so that one can see and measure how their classes lie."""
