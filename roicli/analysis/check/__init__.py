"""``roicli check``: rules over inputs that the operators might refuse, one function a rule."""
