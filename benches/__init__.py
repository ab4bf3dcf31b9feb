"""Measurements of zrepl-trio against plain tools, as ratios of one run (`make bench`)."""
