"""From notebooks to a published book: parameters, runs, results, claims, figures, and the site."""
