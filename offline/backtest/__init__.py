"""History replayed through the code that serves: what would have been recommended then, and would it have sold?"""
