"""Did the model look at the right thing? Tests of a recorded incident that change what the model sees."""
