"""Which images are kept, and with what radius each is attacked."""
