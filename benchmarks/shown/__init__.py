"""What is made of results: tables, plots, the lines of reach, cliffs, the README's figures."""
