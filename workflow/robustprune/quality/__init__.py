"""How good generated images are: like real ones, of their class, and none a copy."""
