"""The board of `tallyman top`: what is seen, and how it is drawn."""
