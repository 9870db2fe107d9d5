"""The recipes: what one batch costs, and how it is attacked for that. One module a recipe."""
