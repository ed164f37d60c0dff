"""Score, rank and select parallel text. No torch here, ever."""
