"""Figures: one module a family of them, all in one style, each with its data and a caption that checks its claim."""
