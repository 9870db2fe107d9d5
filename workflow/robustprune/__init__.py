"""robustprune: which images should a robust model be trained on, and how hard should each be attacked?"""

__version__ = "0.1.0"
