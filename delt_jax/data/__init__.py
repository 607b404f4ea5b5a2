"""Real images in: the table of data sets, their sources, and the pipelines that batch them."""
