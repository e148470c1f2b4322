"""The schemas of data sets; they import no torch."""
