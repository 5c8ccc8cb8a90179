"""`ftctl top`: the whole host on one screen. What is known, how it is drawn, and the program around both."""
