"""The links that end a kind of mail for one user, and the web pages that they open."""
