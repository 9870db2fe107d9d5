"""Two clouds in a plane: what pruning by distance does where points and boundary can be seen."""
